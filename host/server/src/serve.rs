//! A host as a process: its threads, and the signals that it obeys.

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::{Host, Settings};

/// The threads that everything runs on.
///
/// More than there are cores: a policy that spins holds its thread for two milliseconds at a time, and what else the
/// host has to do must find one that is free.
///
/// # Errors
/// If the system gives none.
pub fn runtime() -> std::io::Result<Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread()
        .worker_threads((2 * cores).max(4))
        .thread_name("postern")
        .enable_all()
        .build()
}

/// Serves until SIGTERM or SIGINT. SIGHUP has the settings read again, with `read`.
///
/// # Errors
/// If signals cannot be received, or a listener ends.
pub async fn serve(mut host: Host, read: impl Fn() -> Result<Settings, String>) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                let taken = match read() {
                    Ok(settings) => host.reload(settings).await,
                    Err(error) => Err(error),
                };
                match taken {
                    Ok(()) => tracing::info!("settings read again: entries, manifest and signers"),
                    Err(reason) => tracing::error!(reason, "settings not taken; the ones before stay"),
                }
            }
            () = host.ended() => {
                host.stop().await;
                return Err(std::io::Error::other("a part of the host ended by itself; see the log"));
            }
        }
    }
    host.stop().await;
    Ok(())
}
