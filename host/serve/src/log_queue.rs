//! A log that never blocks the process: a bounded queue, and a thread that writes it.
//!
//! Logging never waits for the reader and never fails. Lines that find no room or cannot be written are lost; lost
//! lines are counted, and the number is logged as soon as writing succeeds again. Part of the capacity is reserved for
//! records, the lines that must not be lost.

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

/// The capacity for lines that wait to be written, in bytes.
const CAPACITY: usize = 1 << 20;
/// The part of the capacity that is reserved for records.
const RESERVED: usize = CAPACITY / 4;
/// How long writing a line may take before the reader counts as stalled.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// The interval between attempts to write after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The queue of a log. Clones share it.
#[derive(Debug, Clone)]
pub struct LogQueue(Arc<Shared>);

/// Why lines are not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFailure {
    /// The last line could not be written: the reader exited, or the disk is full.
    WriteFailed,
    /// The reader exists but does not read.
    Stalled,
}

/// Resolves when a line is written or lost.
#[derive(Debug)]
pub struct WriteReceipt(oneshot::Receiver<()>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// A line was added.
    filled: Condvar,
    /// The queue is empty.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Line>,
    /// The bytes of all lines, including the one that is being written.
    bytes: usize,
    /// When writing the current line started.
    writing_since: Option<Instant>,
    failing: bool,
    lost: u64,
    /// How many lost lines have been reported by notices.
    reported: u64,
    last_notice: Option<Instant>,
}

#[derive(Debug)]
struct Line {
    text: Vec<u8>,
    kind: LineKind,
}

#[derive(Debug, Default)]
enum LineKind {
    #[default]
    Plain,
    /// A line whose caller waits until it is written. The sender is dropped if the line is lost.
    Awaited(oneshot::Sender<()>),
    /// As `Awaited`, for a line that must not be lost.
    Record(oneshot::Sender<()>),
    /// Reports that this many lines were lost.
    LossNotice(u64),
}

thread_local! {
    /// The kind of the next line of this thread: the subscriber in between does not pass it on.
    static NEXT_LINE: Cell<LineKind> = const { Cell::new(LineKind::Plain) };
}

impl LogQueue {
    /// Creates a log on standard error.
    ///
    /// # Errors
    /// If the writer thread cannot be started.
    pub fn stderr() -> io::Result<Self> {
        // Not through the standard library's lock: it would be held while the reader does not read.
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        Self::start(File::from(stderr))
    }

    /// Creates a log that is written to `out`, which must not buffer.
    ///
    /// # Errors
    /// If the writer thread cannot be started.
    pub fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        // It ends with the process: a blocked write cannot be interrupted.
        thread::Builder::new()
            .name("postern-log".into())
            .spawn(move || writer.write_all(out))?;
        Ok(Self(shared))
    }

    /// Waits until all lines are written or lost, but no longer than `within`.
    pub fn finish(&self, within: Duration) {
        let busy = |state: &mut State| !state.lines.is_empty() || state.writing_since.is_some();
        // Lines that are not written by then are lost; this cannot be reported anywhere.
        let _ = self
            .0
            .drained
            .wait_timeout_while(self.0.lock(), within, busy)
            .map(drop);
    }

    /// Why lines are not written; `None` if they are. Only writing a line detects that a reader is gone.
    #[must_use]
    pub fn failure(&self) -> Option<LogFailure> {
        let state = self.0.lock();
        if state
            .writing_since
            .is_some_and(|since| since.elapsed() > WRITE_TIMEOUT)
        {
            return Some(LogFailure::Stalled);
        }
        state.failing.then_some(LogFailure::WriteFailed)
    }

    /// The number of lost lines.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lock().lost
    }
}

/// A subscriber writes each line with one call.
impl Write for LogQueue {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        let kind = NEXT_LINE.try_with(Cell::take).unwrap_or_default();
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

/// Logs panics like other errors: the standard library's panic message would block on the reader.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a thread panicked")));
}

/// Logs a record: the line that `emit` logs may use the reserved capacity. The receipt resolves when it is written.
pub fn log_record(emit: impl FnOnce()) -> WriteReceipt {
    log_with_receipt(LineKind::Record, emit)
}

/// Logs a normal line, with a receipt.
pub fn log_awaited(emit: impl FnOnce()) -> WriteReceipt {
    log_with_receipt(LineKind::Awaited, emit)
}

fn log_with_receipt(kind: fn(oneshot::Sender<()>) -> LineKind, emit: impl FnOnce()) -> WriteReceipt {
    let (written, receipt) = oneshot::channel();
    log_as(kind(written), emit);
    WriteReceipt(receipt)
}

fn log_as(kind: LineKind, emit: impl FnOnce()) {
    NEXT_LINE.set(kind);
    emit();
    // If nothing was logged, nothing will be written.
    NEXT_LINE.set(LineKind::Plain);
}

impl WriteReceipt {
    /// Whether the line is written, within a short timeout.
    pub async fn written(self) -> bool {
        matches!(tokio::time::timeout(WRITE_TIMEOUT, self.0).await, Ok(Ok(())))
    }
}

impl LineKind {
    /// The capacity that a line of this kind may use.
    fn capacity(&self) -> usize {
        match self {
            Self::Plain | Self::Awaited(_) => CAPACITY - RESERVED,
            Self::Record(_) | Self::LossNotice(_) => CAPACITY,
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
        if bytes > line.kind.capacity() {
            return state.count_lost(&line.kind);
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

    /// Waits for the next line.
    fn next(&self) -> Line {
        let mut state = self.lock();
        loop {
            if let Some(lines) = state.notice_due() {
                drop(state);
                // Logged like any other line, so that it has the same format.
                log_as(LineKind::LossNotice(lines), || {
                    tracing::error!(
                        lines,
                        "lines of this log were lost: its reader stalled, or writing failed"
                    );
                });
                state = self.lock();
            }
            if let Some(line) = state.lines.pop_front() {
                state.writing_since = Some(Instant::now());
                return line;
            }
            state = if state.lost > state.reported {
                let waited = self.filled.wait_timeout(state, RETRY_INTERVAL);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                self.filled.wait(state).unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    fn done(&self, line: Line, written: bool) {
        let mut state = self.lock();
        state.writing_since = None;
        state.bytes = state.bytes.saturating_sub(line.text.len());
        state.failing = !written;
        if written {
            match line.kind {
                // If the caller no longer waits, the line is written all the same.
                LineKind::Awaited(written) | LineKind::Record(written) => drop(written.send(())),
                LineKind::Plain | LineKind::LossNotice(_) => {}
            }
        } else {
            state.count_lost(&line.kind);
        }
        if state.lines.is_empty() {
            self.drained.notify_all();
        }
    }
}

impl State {
    /// The number of lost lines to report now, if a notice is due.
    fn notice_due(&mut self) -> Option<u64> {
        let lines = self.lost.saturating_sub(self.reported);
        let rests = self.last_notice.is_some_and(|at| at.elapsed() < RETRY_INTERVAL);
        if lines == 0 || rests {
            return None;
        }
        self.reported = self.lost;
        self.last_notice = Some(Instant::now());
        Some(lines)
    }

    fn count_lost(&mut self, kind: &LineKind) {
        match kind {
            LineKind::Plain | LineKind::Awaited(_) | LineKind::Record(_) => self.lost += 1,
            // A later notice counts them. While writing fails, this also triggers the retries.
            LineKind::LossNotice(lines) => self.reported = self.reported.saturating_sub(*lines),
        }
    }
}
