//! Lines of a policy in the host's log, bounded for each request.

use crate::Failure;
use crate::bindings::log::{self, Level};
use crate::limits::{MAX_LOG_BYTES, MAX_LOG_LINES};

use super::State;

/// What a policy may still write for a request.
#[derive(Debug)]
pub(crate) struct Budget {
    lines: usize,
    bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            lines: MAX_LOG_LINES,
            bytes: MAX_LOG_BYTES,
        }
    }
}

impl Budget {
    /// Takes a line of this length.
    ///
    /// # Errors
    /// [`Failure::Log`] past the bound.
    fn take(&mut self, bytes: usize) -> Result<(), Failure> {
        self.take_line()?;
        self.take_bytes(bytes)
    }

    /// Takes a line, whatever its length.
    ///
    /// # Errors
    /// [`Failure::Log`] past the bound.
    pub(crate) fn take_line(&mut self) -> Result<(), Failure> {
        self.lines = self.lines.checked_sub(1).ok_or(Failure::Log(MAX_LOG_LINES))?;
        Ok(())
    }

    /// Takes so many bytes, of whatever lines.
    ///
    /// # Errors
    /// [`Failure::Log`] past the bound.
    pub(crate) fn take_bytes(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Failure::Log(MAX_LOG_BYTES))?;
        Ok(())
    }
}

/// Writes a line. Control characters are escaped: a policy cannot forge another's lines.
pub(crate) fn write(entry: &str, request_id: &str, level: Level, message: &str) {
    let message = message.escape_debug();
    match level {
        Level::Debug => tracing::debug!(target: "policy", policy = entry, request_id, "{message}"),
        Level::Info => tracing::info!(target: "policy", policy = entry, request_id, "{message}"),
        Level::Warn => tracing::warn!(target: "policy", policy = entry, request_id, "{message}"),
        Level::Error => tracing::error!(target: "policy", policy = entry, request_id, "{message}"),
    }
}

impl log::Host for State {
    fn write(&mut self, level: Level, message: String) -> wasmtime::Result<()> {
        self.log.take(message.len())?;
        write(&self.entry.name, &self.request_id, level, &message);
        Ok(())
    }
}
