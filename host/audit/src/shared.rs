//! State that the handles, the writer and the checkpointer share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::{Checkpoint, Head, Metrics, Time};

/// Slots in the buffer.
#[derive(Debug)]
pub(crate) struct Permit {
    shared: Arc<Shared>,
    slots: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let before = self.shared.waiting.fetch_sub(self.slots, Ordering::AcqRel);
        self.shared.set_backlog_metric(before - self.slots);
    }
}

/// The store fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFailure {
    /// The last error, for the operator.
    pub reason: String,
    /// The time of the first failure, by the host's clock.
    pub since: Time,
}

#[derive(Debug, Default)]
struct Health {
    failure: Option<(StoreFailure, Instant)>,
    /// The writer has panicked.
    writer_died: bool,
    /// When the commit in progress began.
    committing: Option<Instant>,
    checkpoint: Option<Checkpoint>,
    /// The time of the latest known checkpoint of any host.
    latest_checkpoint_time: Option<Time>,
    /// The error of the last attempt to make a checkpoint.
    checkpoint_error: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) metrics: Metrics,
    pub(crate) head: watch::Sender<Head>,
    /// The log accepts no more events.
    pub(crate) closing: AtomicBool,
    /// The writer ends once the queue is empty.
    pub(crate) finished: AtomicBool,
    /// Wakes the writer for what comes by no message: lost events, and the end.
    pub(crate) wake: Notify,
    /// Wakes the checkpointer when the log closes.
    pub(crate) closes: Notify,
    limit: usize,
    waiting: AtomicUsize,
    /// Lost events that no `lost` event of the log counts yet.
    unrecorded_lost: AtomicU64,
    lost: AtomicU64,
    clock_steps: AtomicU64,
    checkpoint_failures: AtomicU64,
    /// The store no longer holds what was written to it.
    truncated: AtomicBool,
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
            unrecorded_lost: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            clock_steps: AtomicU64::new(0),
            checkpoint_failures: AtomicU64::new(0),
            truncated: AtomicBool::new(false),
            health: Mutex::new(Health {
                latest_checkpoint_time: checkpoint.as_ref().map(|checkpoint| checkpoint.time),
                checkpoint,
                ..Health::default()
            }),
        })
    }

    /// Reserves slots in the buffer, if that many are free.
    pub(crate) fn try_reserve(self: &Arc<Self>, slots: usize) -> Option<Permit> {
        let add = |waiting: usize| Some(waiting.checked_add(slots)?).filter(|sum| *sum <= self.limit);
        let before = self
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, add)
            .ok()?;
        self.set_backlog_metric(before + slots);
        Some(Permit {
            shared: Arc::clone(self),
            slots,
        })
    }

    pub(crate) fn backlog(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    fn set_backlog_metric(&self, waiting: usize) {
        self.metrics
            .backlog
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Counts events that were dropped.
    pub(crate) fn count_lost(&self, events: u64) {
        self.unrecorded_lost.fetch_add(events, Ordering::AcqRel);
        self.lost.fetch_add(events, Ordering::AcqRel);
        self.metrics.lost.inc_by(events);
        self.wake.notify_one();
    }

    /// Takes the number of lost events that the log does not record yet; the caller must record them.
    pub(crate) fn take_lost(&self) -> u64 {
        self.unrecorded_lost.swap(0, Ordering::AcqRel)
    }

    /// The number of events lost since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }

    pub(crate) fn count_clock_step(&self) {
        self.clock_steps.fetch_add(1, Ordering::AcqRel);
        self.metrics.clock_steps.inc();
    }

    pub(crate) fn clock_steps(&self) -> u64 {
        self.clock_steps.load(Ordering::Acquire)
    }

    pub(crate) fn checkpoint_failed(&self, stage: &'static str, reason: &str) {
        self.checkpoint_failures.fetch_add(1, Ordering::AcqRel);
        self.metrics.count_checkpoint_failure(stage);
        self.health().checkpoint_error = Some(format!("no checkpoint: {stage}: {reason}"));
    }

    /// The checkpointer ended although the log is open.
    pub(crate) fn checkpointer_died(&self) {
        let error = "no checkpoint: the checkpointer has died, which is a bug: restart the host";
        self.health().checkpoint_error = Some(error.into());
    }

    pub(crate) fn checkpoint_error(&self) -> Option<String> {
        self.health().checkpoint_error.clone()
    }

    /// Records whether the store still holds what was written to it.
    pub(crate) fn set_truncated(&self, truncated: bool) {
        self.truncated.store(truncated, Ordering::Release);
    }

    pub(crate) fn is_truncated(&self) -> bool {
        self.truncated.load(Ordering::Acquire)
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

    pub(crate) fn commit_begun(&self) {
        self.health().committing = Some(Instant::now());
    }

    pub(crate) fn commit_done(&self) {
        let mut health = self.health();
        health.committing = None;
        health.failure = None;
        self.metrics.healthy.set(1);
    }

    /// Records a failed commit. Returns whether it is the first failure after a success.
    pub(crate) fn commit_failed(&self, reason: String, now: Time) -> bool {
        let mut health = self.health();
        health.committing = None;
        let (since, first) = match &health.failure {
            Some((failure, since)) => ((failure.since, *since), false),
            None => ((now, Instant::now()), true),
        };
        let failure = StoreFailure {
            reason,
            since: since.0,
        };
        health.failure = Some((failure, since.1));
        self.metrics.healthy.set(0);
        self.metrics.failures.inc();
        first
    }

    /// The last error of the store, or a commit that takes longer than `limit`.
    pub(crate) fn store_failure(&self, limit: Duration, now: Time) -> Option<StoreFailure> {
        let health = self.health();
        if let Some((failure, _)) = &health.failure {
            return Some(failure.clone());
        }
        let elapsed = health.committing?.elapsed();
        (elapsed > limit).then(|| StoreFailure {
            reason: format!("a commit has taken more than {} ms", limit.as_millis()),
            since: Time::from_micros(now.micros().saturating_sub(micros(elapsed))),
        })
    }

    /// The writer ended although the log is open: nothing is written any more.
    pub(crate) fn writer_died(&self, now: Time) {
        let mut health = self.health();
        if !health.writer_died {
            health.writer_died = true;
            health.committing = None;
            let failure = StoreFailure {
                reason: "the audit log's writer has died, which is a bug: restart the host".into(),
                since: now,
            };
            health.failure = Some((failure, Instant::now()));
            self.metrics.healthy.set(0);
        }
    }

    /// The error of a store that has failed for longer than `limit`.
    pub(crate) fn failing_for(&self, limit: Duration) -> Option<String> {
        let health = self.health();
        let (failure, since) = health.failure.as_ref()?;
        (since.elapsed() > limit).then(|| failure.reason.clone())
    }

    pub(crate) fn checkpoint(&self) -> Option<Checkpoint> {
        self.health().checkpoint.clone()
    }

    /// Notes the time of a checkpoint; this host's next one must not be older.
    pub(crate) fn observe_checkpoint_time(&self, made: Time) {
        let mut health = self.health();
        health.latest_checkpoint_time = health.latest_checkpoint_time.max(Some(made));
    }

    /// The time of the latest known checkpoint of any host.
    pub(crate) fn latest_checkpoint_time(&self) -> Time {
        self.health().latest_checkpoint_time.unwrap_or(Time::EPOCH)
    }

    pub(crate) fn set_checkpoint(&self, checkpoint: Checkpoint) {
        let mut health = self.health();
        health.latest_checkpoint_time = health.latest_checkpoint_time.max(Some(checkpoint.time));
        health.checkpoint = Some(checkpoint);
        health.checkpoint_error = None;
    }

    /// Locked briefly, never across an await.
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
