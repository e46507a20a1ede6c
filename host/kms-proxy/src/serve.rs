//! A proxy as a process: the signals that it obeys.

use tokio::signal::unix::{SignalKind, signal};

use crate::{Proxy, Settings};

/// Serves until SIGTERM or SIGINT. SIGHUP has the settings read again, with `read`.
///
/// # Errors
/// If signals cannot be received, or the listener ends.
pub async fn serve(mut proxy: Proxy, read: impl Fn() -> Result<Settings, String>) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                let taken = match read() {
                    Ok(settings) => proxy.reload(settings).await,
                    Err(error) => Err(error),
                };
                match taken {
                    Ok(()) => tracing::info!("settings read again: signers, callers and certificates"),
                    Err(reason) => tracing::error!(reason, "settings not taken; the ones before stay"),
                }
            }
            part = proxy.ended() => {
                proxy.stop().await;
                return Err(std::io::Error::other(format!("{part} ended by itself; see the log")));
            }
        }
    }
    proxy.stop().await;
    Ok(())
}
