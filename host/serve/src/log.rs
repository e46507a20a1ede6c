//! The log settings of a process, and the subscriber that writes to standard error.

use std::io;

use deserr::Deserr;
use postern_config::ConfigErrors;
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, ParseError};
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
    /// The lower-case name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The log cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The writer thread cannot be started.
    #[error("the log cannot be started: {0}")]
    Queue(#[from] io::Error),
    /// A filter directive is invalid.
    #[error("the log cannot be started: {0}")]
    Filter(#[from] ParseError),
}

/// Returns the layer that writes log lines to standard error, and the queue that it writes through, so that logging
/// never waits for the reader. `targets` are logged from the configured level on, other libraries from warnings on,
/// because below that they log every connection. `directives` override this for single targets, as `RUST_LOG` does.
///
/// # Errors
/// If the writer thread cannot be started, or `directives` are invalid.
pub fn stderr<S>(
    log: LogSettings,
    targets: &[&str],
    directives: &str,
) -> Result<(LogQueue, impl Layer<S> + Send + Sync + use<S>), LogError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let mut filter = match log.level {
        LogLevel::Error => "error".to_owned(),
        _ => "warn".to_owned(),
    };
    for target in targets {
        filter.push_str(&format!(",{target}={}", log.level.name()));
    }
    let filter = EnvFilter::try_new(format!("{filter},{directives}"))?;
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
