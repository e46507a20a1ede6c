//! Writes a component's standard output and standard error to the host's log.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use crate::Failure;
use crate::bindings::log::Level;
use crate::capability::log::{self, Budget};
use crate::grants::Capability;

use crate::entry::Entry;

/// Standard output or standard error of one decision. Logged line by line if the entry is granted `log`, otherwise
/// discarded. Limited in either case.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<Stream>>);

struct Stream {
    entry: Arc<Entry>,
    request_id: String,
    /// Shared by both streams.
    budget: Arc<Mutex<Budget>>,
    lines: Lines,
}

/// Splits written bytes into lines. One write may contain part of a line or many lines.
#[derive(Debug, Default)]
struct Lines {
    /// The line that is not terminated yet.
    partial: Vec<u8>,
}

impl Lines {
    /// Appends bytes and returns the lines completed by them.
    fn take(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut complete = Vec::new();
        for piece in bytes.split_inclusive(|&b| b == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                complete.extend(self.flush());
            }
        }
        complete
    }

    /// Ends the partial line. `None` if it is blank.
    fn flush(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.partial);
        let line = line.trim_ascii_end();
        (!line.is_empty()).then(|| String::from_utf8_lossy(line).into_owned())
    }
}

/// Creates standard output and standard error, which share a budget.
pub(super) fn pair(entry: &Arc<Entry>, request_id: &str) -> (Output, Output) {
    let budget = Arc::<Mutex<Budget>>::default();
    let stream = || {
        Output(Arc::new(Mutex::new(Stream {
            entry: Arc::clone(entry),
            request_id: request_id.to_owned(),
            budget: Arc::clone(&budget),
            lines: Lines::default(),
        })))
    };
    (stream(), stream())
}

impl Stream {
    fn print(&mut self, text: &[u8]) -> io::Result<()> {
        self.with_budget(|budget| budget.take_bytes(text.len()))?;
        let complete = self.lines.take(text);
        complete.iter().try_for_each(|line| self.write(line))
    }

    fn write(&self, line: &str) -> io::Result<()> {
        self.with_budget(Budget::take_line)?;
        if self.entry.grants.has(Capability::Log) {
            log::write(&self.entry.name, &self.request_id, Level::Info, line);
        }
        Ok(())
    }

    fn with_budget(&self, take: impl FnOnce(&mut Budget) -> Result<(), Failure>) -> io::Result<()> {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        take(&mut budget).map_err(io::Error::other)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // The last line may lack a line feed. Over the limit it is discarded.
        let _ = self.lines.flush().map(|line| self.write(&line));
    }
}

impl Output {
    fn print(&self, text: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).print(text)
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, text: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.print(text).map(|()| text.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_independent_of_write_boundaries() {
        let mut lines = Lines::default();
        let text = "one\r\n\ntwo, caf\u{e9}\nthree";
        let mut found: Vec<_> = text
            .as_bytes()
            .iter()
            .flat_map(|byte| lines.take(&[*byte]))
            .collect();
        found.extend(lines.flush());
        assert_eq!(found, ["one", "two, caf\u{e9}", "three"]);
        assert_eq!(lines.take(b"four\nfi"), ["four"]);
        assert_eq!(lines.take(b"ve\n \nsix\n"), ["five", "six"]);
        assert_eq!(lines.flush(), None);
    }
}
