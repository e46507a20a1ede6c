//! Where the proxy's log goes: standard error, a line for each event.

use anyhow::{Context as _, Result};
use postern_serve::log::{self, Log};
use postern_serve::{LogQueue, log_panics};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts the log. The queue is what it is written through.
pub(super) fn start(settings: Log) -> Result<LogQueue> {
    // The audit is no matter of levels.
    let (queue, lines) = log::stderr(settings, &["postern"], "postern_kms_proxy::audit=info")?;
    tracing_subscriber::registry()
        .with(lines)
        .try_init()
        .context("the log cannot be started")?;
    log_panics();
    Ok(queue)
}
