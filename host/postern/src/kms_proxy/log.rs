//! Where the proxy's log goes: standard error, a line for each event.

use anyhow::{Context as _, Result};
use postern_kms_proxy::settings::{Format, Level, Log};
use postern_kms_proxy::{LogQueue, log_panics};
use tracing_subscriber::EnvFilter;

/// Starts the log. The queue is what it is written through.
pub(super) fn start(log: Log) -> Result<LogQueue> {
    // Below warnings, libraries tell of every connection.
    let others = if log.level == Level::Error {
        Level::Error
    } else {
        Level::Warn
    };
    // The audit is no matter of levels.
    let filter = format!(
        "{},postern={},postern_kms_proxy::audit=info",
        others.name(),
        log.level.name()
    );
    let queue = LogQueue::stderr().context("the log cannot be started")?;
    let writer = queue.clone();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter)?)
        // They would go to standard error by another way, which waits and can panic.
        .log_internal_errors(false)
        .with_writer(move || writer.clone());
    let started = match log.format {
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        Format::Text => lines.try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))?;
    log_panics();
    Ok(queue)
}
