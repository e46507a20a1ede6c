//! A server as a process: the signals that it obeys.

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postern_files::with_deadline;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long reading the settings again may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the last line of the log may take. The log is written by a thread of its own.
const LAST_LINE_TIMEOUT: Duration = Duration::from_millis(50);
/// SIGXFSZ, which tokio has no name for.
const FILE_SIZE_EXCEEDED: i32 = 25;

/// A server that a process runs until a signal stops it.
pub trait Process: Sized {
    /// Its settings.
    type Settings: Send + 'static;

    /// How long it may take to stop, all in all.
    const STOP_TIMEOUT: Duration;
    /// The exit code of a process that was ended because something hung.
    const STOP_TIMEOUT_EXIT_CODE: i32;

    /// Takes other settings, and logs which it took.
    ///
    /// # Errors
    /// Why none of them was taken.
    fn apply(&mut self, settings: Self::Settings) -> impl Future<Output = Result<(), String>>;

    /// Waits for the end of a part that should not end, and names it.
    fn task_ended(&mut self) -> impl Future<Output = &'static str>;

    /// Accepts nothing more, and finishes what it has begun, for a while.
    ///
    /// # Errors
    /// If something was lost.
    fn shut_down(self) -> impl Future<Output = io::Result<()>>;
}

/// Serves until SIGTERM or SIGINT, which also end a reload that is under way. SIGHUP has the settings read again, with
/// `read`.
///
/// # Errors
/// If signals cannot be received, a part ends by itself, or something is lost at the end.
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
            Err(io::Error::other(format!("{part} ended by itself; see the log")))
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
        tracing::error!(reason, "settings not taken; the ones before stay");
    }
}

/// Ends this process whatever hangs: a supervisor that has waited too long kills it, and nobody learns why.
fn exit_after(after: Duration, code: i32) -> io::Result<()> {
    let end = move || {
        std::thread::sleep(after);
        tracing::error!("stopped although something hangs");
        std::thread::sleep(LAST_LINE_TIMEOUT);
        std::process::exit(code);
    };
    std::thread::Builder::new()
        .name("postern-stop".into())
        .spawn(end)?;
    Ok(())
}

/// Has a file that reaches its size limit (`RLIMIT_FSIZE`) fail to be written, where SIGXFSZ would end the process. Called
/// within a runtime, before there is anything to write.
///
/// # Errors
/// If the signal cannot be caught.
pub fn catch_file_size_signal() -> io::Result<()> {
    // The handler stays when the stream of signals goes. The call that met the limit fails with EFBIG.
    signal(SignalKind::from_raw(FILE_SIZE_EXCEEDED)).map(drop)
}
