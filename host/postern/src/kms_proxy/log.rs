//! Where the proxy's log goes: standard error, a line for each event.

use std::io;

use anyhow::Result;
use postern_kms_proxy::settings::{Format, Level, Log};
use tracing_subscriber::EnvFilter;

pub(super) fn start(log: Log) -> Result<()> {
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
    let lines = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(filter)?)
        .with_writer(io::stderr);
    let started = match log.format {
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        Format::Text => lines.try_init(),
    };
    started.map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}
