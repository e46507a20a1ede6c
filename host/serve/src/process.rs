//! Runs a server as a process, with its signals.

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postern_files::with_deadline;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long reading the settings for a reload may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last log line may take to be written by the log's own thread.
const LAST_LINE_TIMEOUT: Duration = Duration::from_millis(50);
/// SIGXFSZ, which tokio does not name.
const FILE_SIZE_EXCEEDED: i32 = 25;

/// A server that a process runs until a signal stops it.
pub trait Process: Sized {
    /// The settings that a reload applies.
    type Settings: Send + 'static;

    /// How long stopping may take in all.
    const STOP_TIMEOUT: Duration;
    /// The exit code of a process that does not stop in time.
    const STOP_TIMEOUT_EXIT_CODE: i32;

    /// Applies new settings, and logs which ones.
    ///
    /// # Errors
    /// The reason, if none were applied.
    fn apply(&mut self, settings: Self::Settings) -> impl Future<Output = Result<(), String>>;

    /// Waits for the end of a task that should not end, and returns its name.
    fn task_ended(&mut self) -> impl Future<Output = &'static str>;

    /// Stops accepting, and finishes requests in progress within a timeout.
    ///
    /// # Errors
    /// If data was lost.
    fn shut_down(self) -> impl Future<Output = io::Result<()>>;
}

/// Serves until SIGTERM or SIGINT, which also end a reload in progress. SIGHUP reloads the settings with `read`.
///
/// # Errors
/// If signals cannot be received, a task ends unexpectedly, or data is lost at the end.
pub async fn serve<P, R>(mut server: P, read: R) -> io::Result<()>
where
    P: Process,
    R: Fn() -> Result<P::Settings, String> + Send + Sync + 'static,
{
    let read = Arc::new(read);
    let mut stop = StopSignal::new()?;
    let mut hangup = signal(SignalKind::hangup())?;
    let task = loop {
        tokio::select! {
            () = stop.received() => break None,
            _ = hangup.recv() => tokio::select! {
                () = reload(&mut server, Arc::clone(&read)) => {}
                () = stop.received() => break None,
            },
            part = server.task_ended() => break Some(part),
        }
    };
    exit_after(P::STOP_TIMEOUT, P::STOP_TIMEOUT_EXIT_CODE)?;
    let stopped = server.shut_down().await;
    match task {
        None => stopped,
        Some(part) => {
            stopped?;
            Err(io::Error::other(format!(
                "{part} ended unexpectedly; see the log"
            )))
        }
    }
}

/// SIGTERM or SIGINT.
struct StopSignal {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignal {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn reload<P, R>(server: &mut P, read: Arc<R>)
where
    P: Process,
    R: Fn() -> Result<P::Settings, String> + Send + Sync + 'static,
{
    let applied = match with_deadline(Path::new("settings"), READ_TIMEOUT, move || read()).await {
        Ok(Ok(settings)) => server.apply(settings).await,
        Ok(Err(error)) => Err(error),
        Err(stalled) => Err(stalled.to_string()),
    };
    if let Err(reason) = applied {
        tracing::error!(reason, "settings not applied; the previous ones stay in force");
    }
}

/// Exits this process even if something hangs: a supervisor would kill it without any trace in the log.
fn exit_after(after: Duration, code: i32) -> io::Result<()> {
    let end = move || {
        std::thread::sleep(after);
        tracing::error!("exiting although something hangs");
        std::thread::sleep(LAST_LINE_TIMEOUT);
        std::process::exit(code);
    };
    std::thread::Builder::new()
        .name("postern-stop".into())
        .spawn(end)?;
    Ok(())
}

/// Makes writes beyond the file size limit (`RLIMIT_FSIZE`) fail instead of ending the process by SIGXFSZ. Call it
/// within a runtime, before anything is written.
///
/// # Errors
/// If the signal cannot be caught.
pub fn catch_file_size_signal() -> io::Result<()> {
    // The handler stays installed when the signal stream is dropped. The write that exceeds the limit fails with EFBIG.
    signal(SignalKind::from_raw(FILE_SIZE_EXCEEDED)).map(drop)
}
