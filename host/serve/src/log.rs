//! The log settings of a process, and the subscriber that writes to standard error.

use std::io;

use deserr::Deserr;
use postern_config::ConfigErrors;
use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt};

use crate::LogQueue;

/// The `log` section of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct LogSettings {
    /// JSON or text.
    #[deserr(default = LogFormat::Json)]
    pub format: LogFormat,
    /// The lowest level that is logged.
    #[deserr(default = LogLevel::Info)]
    pub level: LogLevel,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            level: LogLevel::Info,
        }
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Human-readable text.
    Text,
}

/// The lowest level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum LogLevel {
    /// Errors that need an operator.
    Error,
    /// Problems that may need an operator.
    Warn,
    /// Changes of state.
    Info,
    /// Each request.
    Debug,
    /// All events.
    Trace,
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// Returns the layer that writes log lines to standard error, and the queue that it writes through, so that logging
/// never waits for the reader. `targets` are logged from the configured level on, other libraries from warnings on,
/// because below that they log every connection. `overrides` are targets with a level of their own.
///
/// # Errors
/// If the writer thread cannot be started.
pub fn stderr<S>(
    log: LogSettings,
    targets: &[&str],
    overrides: &[(&str, LevelFilter)],
) -> io::Result<(LogQueue, impl Layer<S> + Send + Sync + use<S>)>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let level = log.level.filter();
    // Not an `EnvFilter`: its regular expressions are a lot of code for a list of prefixes.
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_targets(targets.iter().map(|target| (*target, level)))
        .with_targets(overrides.iter().copied());
    let queue = LogQueue::stderr()?;
    let writer = queue.clone();
    let lines = fmt::layer()
        // They would be written to standard error directly, which blocks and can panic.
        .log_internal_errors(false)
        .with_writer(move || writer.clone());
    let lines = match log.format {
        LogFormat::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
        LogFormat::Text => lines.boxed(),
    };
    Ok((queue, lines.with_filter(filter)))
}
