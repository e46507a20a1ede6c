//! The log of a process: what is logged, and how, and the subscriber that writes it to standard error.

use std::io;

use deserr::Deserr;
use postern_config::ConfigErrors;
use tracing::Subscriber;
use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt};

use crate::LogQueue;

/// What is logged, and how: `log` in settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, deny_unknown_fields)]
pub struct LogSettings {
    /// For machines or for people.
    #[deserr(default = LogFormat::Json)]
    pub format: LogFormat,
    /// The least that is logged.
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

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// The least that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserr)]
#[deserr(error = ConfigErrors, rename_all = lowercase)]
pub enum LogLevel {
    /// What needs someone.
    Error,
    /// What may need someone.
    Warn,
    /// What changes.
    Info,
    /// Each request.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Its name.
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

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system gives no thread.
    #[error("the log cannot be started: {0}")]
    Queue(#[from] io::Error),
    /// A directive is not one.
    #[error("the log cannot be started: {0}")]
    Filter(#[from] ParseError),
}

/// The layer that writes lines to standard error, and the queue that it writes them through: nobody who logs waits for
/// the reader. `targets` are logged from the level of the settings on, other libraries from warnings on, since below they
/// tell of every connection. `directives` say otherwise for single targets, as `RUST_LOG` does.
///
/// # Errors
/// If the system gives no thread, or `directives` are not directives.
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
        // They would go to standard error by another way, which waits and can panic.
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
