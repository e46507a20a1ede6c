//! The `log` capability: lines in the host's log, limited per request.

use crate::Failure;
use crate::bindings::log::{self, Level};
use crate::limits::{MAX_LOG_BYTES, MAX_LOG_LINES};

use super::State;

/// Lines and bytes that a policy may still log for a request.
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
    /// Charges a line of this length.
    ///
    /// # Errors
    /// [`Failure::Log`] over the limit.
    fn take(&mut self, bytes: usize) -> Result<(), Failure> {
        self.take_line()?;
        self.take_bytes(bytes)
    }

    /// Charges a line, regardless of its length.
    ///
    /// # Errors
    /// [`Failure::Log`] over the limit.
    pub(crate) fn take_line(&mut self) -> Result<(), Failure> {
        self.lines = self.lines.checked_sub(1).ok_or(Failure::Log(MAX_LOG_LINES))?;
        Ok(())
    }

    /// Charges bytes, regardless of lines.
    ///
    /// # Errors
    /// [`Failure::Log`] over the limit.
    pub(crate) fn take_bytes(&mut self, bytes: usize) -> Result<(), Failure> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Failure::Log(MAX_LOG_BYTES))?;
        Ok(())
    }
}

/// Writes a line to the host's log. Control characters are escaped, so that a policy cannot forge log lines.
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
