//! A proxy as a process: the signals that it obeys.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::listen::STOPPING;
use crate::{Proxy, Settings};

/// How long a proxy that stops may take beyond the time that it gives to what it has begun.
const ENDING: Duration = Duration::from_secs(1);
/// The exit code of a proxy that was ended because something hung: trying again may help.
const HANGS: i32 = 2;
/// SIGXFSZ, which tokio has no name for.
const FILE_SIZE_EXCEEDED: i32 = 25;

/// Has a file that reaches its size limit (`RLIMIT_FSIZE`) fail to be written, where SIGXFSZ would end the process. Called
/// within a runtime, before there is anything to write.
///
/// # Errors
/// If the signal cannot be caught.
pub fn outlive_file_size_limits() -> std::io::Result<()> {
    // The handler stays when the stream of signals goes. The call that met the limit fails with EFBIG.
    signal(SignalKind::from_raw(FILE_SIZE_EXCEEDED)).map(drop)
}

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
                end_at_last()?;
                proxy.stop().await;
                return Err(std::io::Error::other(format!("{part} ended by itself; see the log")));
            }
        }
    }
    end_at_last()?;
    proxy.stop().await;
    Ok(())
}

/// Ends this process whatever hangs, be it a call in the token's module or who reads standard error.
fn end_at_last() -> std::io::Result<()> {
    let end = || {
        std::thread::sleep(STOPPING + ENDING);
        std::process::exit(HANGS);
    };
    std::thread::Builder::new()
        .name("postern-stop".into())
        .spawn(end)?;
    Ok(())
}
