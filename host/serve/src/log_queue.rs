//! The log of a process that must outlive its log's reader: a bounded queue, and a thread that writes it.
//!
//! Whoever logs never waits for the reader and never sees an error. A line that finds no room, or that cannot be
//! written, is lost; lines that are lost are counted, and the log says so as soon as it can be written again. A part of
//! the room is kept for records, the lines that must not be missing.

mod line_writer;

use std::cell::Cell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use line_writer::LineWriter;

/// The room for lines that wait to be written, in bytes.
const ROOM: usize = 1 << 20;
/// The part of it that is kept for records.
const KEPT: usize = ROOM / 4;
/// How long a line may take to be written. A reader that takes longer does not read.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long to wait before the log is tried again after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// A log's queue. All clones are the same one.
#[derive(Debug, Clone)]
pub struct LogQueue(Arc<Shared>);

/// Why lines are not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The last line could not be written: the reader is gone, the disk is full.
    Fails,
    /// The reader is there, and does not read.
    Stalls,
}

/// Whether a line was written.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<()>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// A line has come.
    filled: Condvar,
    /// There is none left.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Line>,
    /// The bytes of all lines, the one included that is being written.
    bytes: usize,
    /// Since when a line is being written.
    writing: Option<Instant>,
    failing: bool,
    lost: u64,
    /// How many of them notices have counted.
    noted: u64,
    /// When the last notice was logged.
    noticed: Option<Instant>,
}

#[derive(Debug)]
struct Line {
    text: Vec<u8>,
    kind: Kind,
}

#[derive(Debug, Default)]
enum Kind {
    #[default]
    Plain,
    /// Somebody waits until it is written. Dropped, if it is lost.
    Awaited(oneshot::Sender<()>),
    /// The same, for a line that must not be missing.
    Record(oneshot::Sender<()>),
    /// It says that so many lines were lost.
    Notice(u64),
}

thread_local! {
    /// What the next line of this thread is. The subscriber in between knows nothing of it.
    static NEXT: Cell<Kind> = const { Cell::new(Kind::Plain) };
}

impl LogQueue {
    /// A log on standard error.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn stderr() -> io::Result<Self> {
        // Not through the standard library's lock: it would be held while nobody reads.
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        Self::start(File::from(stderr))
    }

    /// A log that is written to `out`, which must not buffer.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        // It ends with the process: nobody can interrupt a write.
        thread::Builder::new()
            .name("postern-log".into())
            .spawn(move || writer.write_all(out))?;
        Ok(Self(shared))
    }

    /// Waits until all lines are written or lost, but no longer than this.
    pub fn finish(&self, within: Duration) {
        let busy = |state: &mut State| !state.lines.is_empty() || state.writing.is_some();
        // What has not been written by then is lost; there is nowhere left to say so.
        let _ = self
            .0
            .drained
            .wait_timeout_while(self.0.lock(), within, busy)
            .map(drop);
    }

    /// Why lines are not written, if they are not. That a reader is gone, only a line can find out.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        let state = self.0.lock();
        if state.writing.is_some_and(|since| since.elapsed() > PATIENCE) {
            return Some(Trouble::Stalls);
        }
        state.failing.then_some(Trouble::Fails)
    }

    /// How many lines were lost.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lock().lost
    }
}

/// A subscriber writes each line as one.
impl Write for LogQueue {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let kind = NEXT.try_with(Cell::take).unwrap_or_default();
        self.0.push(Line {
            text: text.to_vec(),
            kind,
        });
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Has panics logged as all else is: what the standard library writes of them would wait for the reader.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a thread panicked")));
}

/// Logs a record: the line that `emit` logs may take the room that is kept, and the receipt says when it is written.
pub fn record(emit: impl FnOnce()) -> Receipt {
    await_as(Kind::Record, emit)
}

/// Logs a line like any other, with a receipt.
pub fn awaited(emit: impl FnOnce()) -> Receipt {
    await_as(Kind::Awaited, emit)
}

fn await_as(kind: fn(oneshot::Sender<()>) -> Kind, emit: impl FnOnce()) -> Receipt {
    let (written, receipt) = oneshot::channel();
    log_as(kind(written), emit);
    Receipt(receipt)
}

fn log_as(kind: Kind, emit: impl FnOnce()) {
    NEXT.set(kind);
    emit();
    // Where nothing was logged, nothing will be written.
    NEXT.set(Kind::Plain);
}

impl Receipt {
    /// Whether the line is written, which it has a moment for.
    pub async fn written(self) -> bool {
        matches!(tokio::time::timeout(PATIENCE, self.0).await, Ok(Ok(())))
    }
}

impl Kind {
    /// The room that a line of this kind may fill.
    fn room(&self) -> usize {
        match self {
            Self::Plain | Self::Awaited(_) => ROOM - KEPT,
            Self::Record(_) | Self::Notice(_) => ROOM,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: Line) {
        let mut state = self.lock();
        let bytes = state.bytes.saturating_add(line.text.len());
        if bytes > line.kind.room() {
            return state.lose(&line.kind);
        }
        state.bytes = bytes;
        state.lines.push_back(line);
        self.filled.notify_one();
    }

    fn write_all(&self, out: impl Write) {
        let mut out = LineWriter::new(out);
        loop {
            let line = self.next();
            let written = out.write(&line.text);
            self.done(line, written.is_ok());
        }
    }

    /// The next line, once there is one.
    fn next(&self) -> Line {
        let mut state = self.lock();
        loop {
            if let Some(lines) = state.notice_due() {
                drop(state);
                // Logged like any other line, so that it has the form of the others.
                log_as(Kind::Notice(lines), || {
                    tracing::error!(
                        lines,
                        "lines of this log were lost: nobody read it, or it could not be written"
                    );
                });
                state = self.lock();
            }
            if let Some(line) = state.lines.pop_front() {
                state.writing = Some(Instant::now());
                return line;
            }
            state = if state.lost > state.noted {
                let waited = self.filled.wait_timeout(state, RETRY);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.filled.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    fn done(&self, line: Line, written: bool) {
        let mut state = self.lock();
        state.writing = None;
        state.bytes = state.bytes.saturating_sub(line.text.len());
        state.failing = !written;
        if written {
            match line.kind {
                // If nobody waits any more, it is written all the same.
                Kind::Awaited(written) | Kind::Record(written) => drop(written.send(())),
                Kind::Plain | Kind::Notice(_) => {}
            }
        } else {
            state.lose(&line.kind);
        }
        if state.lines.is_empty() {
            self.drained.notify_all();
        }
    }
}

impl State {
    /// How many lines a notice should count that is to be logged now.
    fn notice_due(&mut self) -> Option<u64> {
        let lines = self.lost.saturating_sub(self.noted);
        let rests = self.noticed.is_some_and(|at| at.elapsed() < RETRY);
        if lines == 0 || rests {
            return None;
        }
        self.noted = self.lost;
        self.noticed = Some(Instant::now());
        Some(lines)
    }

    fn lose(&mut self, kind: &Kind) {
        match kind {
            Kind::Plain | Kind::Awaited(_) | Kind::Record(_) => self.lost += 1,
            // Another will count them. While writing fails, this is also what tries again.
            Kind::Notice(lines) => self.noted = self.noted.saturating_sub(*lines),
        }
    }
}
