//! What waits for the writer, and what everyone may know of it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::store::NewCheckpoint;
use crate::{AppendError, Checkpoint, Event, Head, ManifestSignature, Metrics, Receipt, Time};

/// An event, and the row that is written with it.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) event: Event,
    pub(crate) manifest: Option<Box<ManifestSignature>>,
}

impl From<Event> for Item {
    fn from(event: Event) -> Self {
        Self {
            event,
            manifest: None,
        }
    }
}

pub(crate) type Answer = Result<Vec<Receipt>, AppendError>;

/// Who waits, and until when.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) reply: oneshot::Sender<Answer>,
    pub(crate) until: Instant,
}

/// Events that are written together.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) items: Vec<Item>,
    /// Nobody waits for events that were noted: they stay until they are written.
    pub(crate) caller: Option<Caller>,
    /// Given back when the job is dropped; the writer's own events take none.
    pub(crate) room: Option<Room>,
}

/// To the writer.
#[derive(Debug)]
pub(crate) enum Message {
    Job(Job),
    Checkpoint(NewCheckpoint, oneshot::Sender<Result<(), String>>),
}

/// Places in the buffer.
#[derive(Debug)]
pub(crate) struct Room {
    shared: Arc<Shared>,
    places: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        let before = self.shared.waiting.fetch_sub(self.places, Ordering::AcqRel);
        self.shared.show_backlog(before - self.places);
    }
}

/// Why the store does not work, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// In words, for the operator.
    pub reason: String,
    /// Since when, by the host's clock.
    pub since: Time,
}

#[derive(Debug, Default)]
struct Health {
    problem: Option<(Problem, Instant)>,
    /// The writer is no more.
    died: bool,
    /// When the commit that is under way began.
    committing: Option<Instant>,
    checkpoint: Option<Checkpoint>,
    /// When the last checkpoint was made that is known of, whoever made it.
    checkpoints_until: Option<Time>,
    /// Why the last try to make one failed.
    checkpoint_fault: Option<String>,
}

/// What the handles, the writer and the maker of checkpoints share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) metrics: Metrics,
    pub(crate) head: watch::Sender<Head>,
    /// No more events are taken.
    pub(crate) closing: AtomicBool,
    /// The writer ends once nothing waits.
    pub(crate) finished: AtomicBool,
    /// Wakes the writer for what comes by no message: a loss, the end.
    pub(crate) wake: Notify,
    /// Wakes the maker of checkpoints when the log closes.
    pub(crate) closes: Notify,
    limit: usize,
    waiting: AtomicUsize,
    lost: AtomicU64,
    lost_ever: AtomicU64,
    clock_steps: AtomicU64,
    checkpoint_failures: AtomicU64,
    /// The store no longer holds what was written to it.
    cut: AtomicBool,
    health: Mutex<Health>,
}

impl Shared {
    pub(crate) fn new(
        metrics: Metrics,
        limit: usize,
        head: Head,
        checkpoint: Option<Checkpoint>,
    ) -> Arc<Self> {
        metrics.healthy.set(1);
        Arc::new(Self {
            metrics,
            head: watch::Sender::new(head),
            closing: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            wake: Notify::new(),
            closes: Notify::new(),
            limit,
            waiting: AtomicUsize::new(0),
            lost: AtomicU64::new(0),
            lost_ever: AtomicU64::new(0),
            clock_steps: AtomicU64::new(0),
            checkpoint_failures: AtomicU64::new(0),
            cut: AtomicBool::new(false),
            health: Mutex::new(Health {
                checkpoints_until: checkpoint.as_ref().map(|checkpoint| checkpoint.time),
                checkpoint,
                ..Health::default()
            }),
        })
    }

    /// Takes places in the buffer, if there are so many.
    pub(crate) fn room(self: &Arc<Self>, places: usize) -> Option<Room> {
        let enter = |waiting: usize| Some(waiting.checked_add(places)?).filter(|sum| *sum <= self.limit);
        let before = self
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, enter)
            .ok()?;
        self.show_backlog(before + places);
        Some(Room {
            shared: Arc::clone(self),
            places,
        })
    }

    pub(crate) fn backlog(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    fn show_backlog(&self, waiting: usize) {
        self.metrics
            .backlog
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Counts events that are not written.
    pub(crate) fn lose(&self, events: u64) {
        self.lost.fetch_add(events, Ordering::AcqRel);
        self.lost_ever.fetch_add(events, Ordering::AcqRel);
        self.metrics.lost.inc_by(events);
        self.wake.notify_one();
    }

    /// How many were lost that the log does not tell of yet; from now on it is the caller who tells.
    pub(crate) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::AcqRel)
    }

    pub(crate) fn lost_ever(&self) -> u64 {
        self.lost_ever.load(Ordering::Acquire)
    }

    pub(crate) fn clock_stepped(&self) {
        self.clock_steps.fetch_add(1, Ordering::AcqRel);
        self.metrics.clock_steps.inc();
    }

    pub(crate) fn clock_steps(&self) -> u64 {
        self.clock_steps.load(Ordering::Acquire)
    }

    pub(crate) fn checkpoint_failed(&self, stage: &'static str, reason: &str) {
        self.checkpoint_failures.fetch_add(1, Ordering::AcqRel);
        self.metrics.checkpoint_failed(stage);
        self.health().checkpoint_fault = Some(format!("no checkpoint: {stage}: {reason}"));
    }

    /// The maker of checkpoints has ended though nobody closed the log.
    pub(crate) fn checkpointer_died(&self) {
        let fault =
            "no checkpoint: what makes them has died, which is a fault of this program: restart the host";
        self.health().checkpoint_fault = Some(fault.into());
    }

    pub(crate) fn checkpoint_fault(&self) -> Option<String> {
        self.health().checkpoint_fault.clone()
    }

    /// The store no longer holds what was written to it, or does again.
    pub(crate) fn set_cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Release);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    pub(crate) fn checkpoint_failures(&self) -> u64 {
        self.checkpoint_failures.load(Ordering::Acquire)
    }

    pub(crate) fn closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(crate) fn finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    pub(crate) fn begin_commit(&self) {
        self.health().committing = Some(Instant::now());
    }

    pub(crate) fn commit_done(&self) {
        let mut health = self.health();
        health.committing = None;
        health.problem = None;
        self.metrics.healthy.set(1);
    }

    /// Whether this is the first failure after a success.
    pub(crate) fn commit_failed(&self, reason: String, now: Time) -> bool {
        let mut health = self.health();
        health.committing = None;
        let (since, first) = match &health.problem {
            Some((problem, since)) => ((problem.since, *since), false),
            None => ((now, Instant::now()), true),
        };
        let problem = Problem {
            reason,
            since: since.0,
        };
        health.problem = Some((problem, since.1));
        self.metrics.healthy.set(0);
        self.metrics.failures.inc();
        first
    }

    /// What is wrong with the store: the last error, or a commit that takes longer than it may.
    pub(crate) fn problem(&self, deadline: Duration, now: Time) -> Option<Problem> {
        let health = self.health();
        if let Some((problem, _)) = &health.problem {
            return Some(problem.clone());
        }
        let hanging = health.committing?.elapsed();
        (hanging > deadline).then(|| Problem {
            reason: format!("a commit has taken more than {} ms", deadline.as_millis()),
            since: Time::from_micros(now.micros().saturating_sub(micros(hanging))),
        })
    }

    /// The writer has ended though nobody closed the log: nothing is written any more.
    pub(crate) fn writer_died(&self, now: Time) {
        let mut health = self.health();
        if !health.died {
            health.died = true;
            health.committing = None;
            let problem = Problem {
                reason: "the audit log's writer has died, which is a fault of this program: restart the host"
                    .into(),
                since: now,
            };
            health.problem = Some((problem, Instant::now()));
            self.metrics.healthy.set(0);
        }
    }

    /// Whether the store has failed for longer than this.
    pub(crate) fn broken_for(&self, deadline: Duration) -> Option<String> {
        let health = self.health();
        let (problem, since) = health.problem.as_ref()?;
        (since.elapsed() > deadline).then(|| problem.reason.clone())
    }

    pub(crate) fn checkpoint(&self) -> Option<Checkpoint> {
        self.health().checkpoint.clone()
    }

    /// No further checkpoint should be older than this one.
    pub(crate) fn checkpoint_seen(&self, made: Time) {
        let mut health = self.health();
        health.checkpoints_until = health.checkpoints_until.max(Some(made));
    }

    pub(crate) fn checkpoints_until(&self) -> Time {
        self.health().checkpoints_until.unwrap_or(Time::EPOCH)
    }

    pub(crate) fn set_checkpoint(&self, checkpoint: Checkpoint) {
        let mut health = self.health();
        health.checkpoints_until = health.checkpoints_until.max(Some(checkpoint.time));
        health.checkpoint = Some(checkpoint);
        health.checkpoint_fault = None;
    }

    /// Held for moments only, never across an await.
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Bounded by [`Room`], not by the channel.
pub(crate) type Messages = mpsc::UnboundedReceiver<Message>;
