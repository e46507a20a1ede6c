//! What a component prints, as lines of the host's log.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

use crate::capability::log::{self, Budget};
use crate::contract::log::Level;
use crate::grants::Capability;

use super::super::Entry;

/// Standard output and standard error of one decision: logged if the entry is granted `log`, dropped otherwise.
/// Either way bounded.
#[derive(Clone)]
pub(super) struct Output {
    entry: Arc<Entry>,
    request_id: String,
    budget: Arc<Mutex<Budget>>,
}

impl Output {
    pub(super) fn new(entry: &Arc<Entry>, request_id: &str) -> Self {
        Self {
            entry: Arc::clone(entry),
            request_id: request_id.to_owned(),
            budget: Arc::default(),
        }
    }

    fn print(&self, text: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(text);
        for line in text.lines().filter(|line| !line.is_empty()) {
            self.budget
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(line.len())
                .map_err(io::Error::other)?;
            if self.entry.grants.has(Capability::Log) {
                log::write(&self.entry.name, &self.request_id, Level::Info, line);
            }
        }
        Ok(())
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
