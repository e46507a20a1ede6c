//! A host as a process: its threads, and the signals that it obeys.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postern_files::with_deadline;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

use crate::{Host, Settings};

/// The threads that everything runs on.
///
/// More than there are cores: a policy that spins holds its thread for a millisecond at a time, and what else the
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

/// How long a host that stops may take, all in all.
const STOPPING: Duration = Duration::from_millis(4850);
/// The exit code of a host that was ended because something hung.
const HANGS: i32 = 3;
/// How long reading the settings again may take.
const READING: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT, which also end a reload that is under way. SIGHUP has the settings read again, with
/// `read`.
///
/// # Errors
/// If signals cannot be received, a listener ends, or events are lost at the end.
pub async fn serve<R>(mut host: Host, read: R) -> std::io::Result<()>
where
    R: Fn() -> Result<Settings, String> + Send + Sync + 'static,
{
    let read = Arc::new(read);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => tokio::select! {
                () = reload(&mut host, Arc::clone(&read)) => {}
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            },
            () = host.ended() => {
                end_at_last()?;
                host.stop().await.map_err(std::io::Error::other)?;
                return Err(std::io::Error::other("a part of the host ended by itself; see the log"));
            }
        }
    }
    end_at_last()?;
    host.stop().await.map_err(std::io::Error::other)
}

/// Ends this process whatever hangs: a supervisor that has waited too long kills it, and nobody learns why.
fn end_at_last() -> std::io::Result<()> {
    let end = || {
        std::thread::sleep(STOPPING);
        tracing::error!("stopped although something hangs");
        // The log is written by a thread of its own.
        std::thread::sleep(Duration::from_millis(50));
        std::process::exit(HANGS);
    };
    std::thread::Builder::new()
        .name("postern-stop".into())
        .spawn(end)?;
    Ok(())
}

async fn reload<R>(host: &mut Host, read: Arc<R>)
where
    R: Fn() -> Result<Settings, String> + Send + Sync + 'static,
{
    let taken = match with_deadline(Path::new("settings"), READING, move || read()).await {
        Ok(Ok(settings)) => host.reload(settings).await,
        Ok(Err(error)) => Err(error),
        Err(stalled) => Err(stalled.to_string()),
    };
    match taken {
        Ok(left) => {
            tracing::info!("settings read again: entries, manifest, signers and who is asked to sign");
            if !left.is_empty() {
                let left = left.join(", ");
                tracing::warn!(
                    left,
                    "these settings differ from those of the start: restart the host to take them"
                );
            }
        }
        Err(reason) => tracing::error!(reason, "settings not taken; the ones before stay"),
    }
}
