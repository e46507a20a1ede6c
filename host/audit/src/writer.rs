//! The only task that writes. It takes jobs from the queue, appends them to the log in one transaction, and replies to the
//! callers.
//!
//! Whether a failed commit happened is unknown. So the writer drops the connection, reads the head from the store again,
//! and retries the same events: those that are there already are found by their ids.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::conflict::{Conflict, conflicts};
use crate::link::{LinkedBatch, link};
use crate::queue::{Item, Job, Message, Messages};
use crate::shared::Shared;
use crate::store::{Backend, NewCheckpoint};
use crate::verify::SKEW;
use crate::{
    AppendError, Checkpoint, Clock, Decision, Event, Head, Kind, Receipt, Settings, Store, StoreError, Time,
};

/// Limit of one commit; callers wait for their own deadline only.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);
/// The delay after the first failure; doubled after each further one.
const BACKOFF: Duration = Duration::from_millis(20);
const MAX_BACKOFF: Duration = Duration::from_secs(1);
/// How often an idle writer checks that the store is intact.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The limit of immediate retries after write conflicts with other hosts. Of two hosts in conflict, one succeeds.
const CONFLICT_RETRIES: usize = 100;
/// A clock that goes back by less is being adjusted, and not recorded as set back.
const CLOCK_STEP: Duration = Duration::from_secs(1);

type PendingCheckpoint = (NewCheckpoint, oneshot::Sender<Result<(), String>>);

pub(crate) struct Writer {
    settings: Settings,
    backend: Backend,
    messages: Messages,
    shared: Arc<Shared>,
    clock: Clock,
    /// The jobs of the next commit, or of the one that is retried.
    batch: VecDeque<Job>,
    checkpoints: Vec<PendingCheckpoint>,
    /// The last reading of the clock, or the time of the last event before the host started.
    last_clock: Time,
    backoff: Duration,
    /// All senders are gone.
    disconnected: bool,
}

impl Writer {
    pub(crate) fn new(
        settings: Settings,
        backend: Backend,
        messages: Messages,
        shared: Arc<Shared>,
        clock: Clock,
    ) -> Self {
        let last_clock = match &settings.store {
            Store::Sqlite(_) => shared.head.borrow().recorded,
            // Another host may have written the last event, by its own clock.
            Store::Postgres(_) => clock.now(),
        };
        Self {
            settings,
            backend,
            messages,
            shared,
            clock,
            batch: VecDeque::new(),
            checkpoints: Vec::new(),
            last_clock,
            backoff: BACKOFF,
            disconnected: false,
        }
    }

    pub(crate) async fn run(mut self) {
        while self.fill_batch().await {
            let now = self.read_clock();
            self.shared.commit_begun();
            let began = Instant::now();
            let written = timeout(COMMIT_LIMIT, self.write(now)).await;
            match written.unwrap_or(Err(StoreError::Timeout(COMMIT_LIMIT.as_secs()))) {
                Ok((before, linked)) => {
                    self.shared.metrics.commit.observe(began.elapsed().as_secs_f64());
                    self.acknowledge(before, &linked);
                }
                Err(error) => self.handle_failure(&error, now).await,
            }
        }
        self.backend.close().await;
    }

    /// Waits until there is something to write. Returns false when the writer must end.
    async fn fill_batch(&mut self) -> bool {
        loop {
            self.take_queued();
            self.drop_expired();
            let lost = self.shared.take_lost();
            if lost > 0 {
                let now = self.clock.now();
                self.record(
                    Event::of_host(Kind::Lost, &self.settings.host, now),
                    "count",
                    lost,
                );
            }
            if !self.batch.is_empty() || !self.checkpoints.is_empty() {
                return true;
            }
            if self.disconnected || self.shared.finished() {
                return false;
            }
            tokio::select! {
                message = self.messages.recv() => match message {
                    Some(message) => self.take(message),
                    None => self.disconnected = true,
                },
                () = self.shared.wake.notified() => {}
                () = sleep(CHECK_INTERVAL) => self.check_store().await,
            }
        }
    }

    /// Checks that the store is intact. Without this, a truncation would go unnoticed until the next event.
    async fn check_store(&mut self) {
        let last = *self.shared.head.borrow();
        let intact = timeout(COMMIT_LIMIT, self.backend.check_intact(last)).await;
        if let Err(error) = intact.unwrap_or(Err(StoreError::Timeout(COMMIT_LIMIT.as_secs()))) {
            let now = self.clock.now();
            self.handle_failure(&error, now).await;
        }
    }

    fn take_queued(&mut self) {
        let mut events: usize = self.batch.iter().map(|job| job.items.len()).sum();
        while events < self.settings.batch {
            match self.messages.try_recv() {
                Ok(message) => {
                    if let Message::Job(job) = &message {
                        events += job.items.len();
                    }
                    self.take(message);
                }
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.disconnected = true;
                    return;
                }
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Job(job) => self.batch.push_back(job),
            Message::Checkpoint(row, reply) => self.checkpoints.push((row, reply)),
        }
    }

    /// Drops the jobs whose caller's deadline has passed: their callers already got an error.
    fn drop_expired(&mut self) {
        let now = Instant::now();
        self.batch
            .retain(|job| job.caller.as_ref().is_none_or(|caller| now < caller.deadline));
    }

    /// Puts an event of the log itself in front of the batch. It is retried until it is written.
    fn record(&mut self, mut event: Event, name: &str, value: impl Into<serde_json::Value>) {
        event.detail.insert(name.into(), value.into());
        self.batch.push_front(Job {
            items: vec![event.into()],
            caller: None,
            permit: None,
        });
    }

    fn read_clock(&mut self) -> Time {
        let now = self.clock.now();
        let back = Duration::from_micros(self.last_clock.micros().saturating_sub(now.micros()));
        self.last_clock = now;
        if back > CLOCK_STEP {
            self.shared.count_clock_step();
            tracing::warn!(?back, "the clock went back");
            let micros = u64::try_from(back.as_micros()).unwrap_or(u64::MAX);
            self.record(
                Event::of_host(Kind::Clock, &self.settings.host, now),
                "back_us",
                micros,
            );
        }
        now
    }

    /// Writes the batch, and retries if another host wrote at the same time. Returns the head before it, and what was
    /// appended to that head.
    async fn write(&mut self, now: Time) -> Result<(Head, LinkedBatch), StoreError> {
        for _ in 0..CONFLICT_RETRIES {
            match self.write_once(now).await {
                Err(StoreError::WriteConflict) => self.backend.roll_back().await?,
                result => return result,
            }
        }
        self.write_once(now).await
    }

    /// Writes the batch and the checkpoints in one transaction.
    async fn write_once(&mut self, now: Time) -> Result<(Head, LinkedBatch), StoreError> {
        let last = *self.shared.head.borrow();
        if self.backend.connect().await? {
            self.backend.check_event(last.size, last.hash).await?;
        }
        self.backend.check_intact(last).await?;
        let head = self.backend.begin().await?;
        if head.size < last.size || (head.size == last.size && head.hash != last.hash) {
            return Err(StoreError::Truncated(last.size));
        }
        let items = self.batch.iter().flat_map(|job| &job.items);
        let ids: Vec<_> = items.map(|item| item.event.id).collect();
        let existing = self.backend.existing(&ids).await?;
        self.reject(&conflicts(&self.batch, &existing));
        let existing: HashMap<_, _> = existing
            .into_iter()
            .map(|(id, event)| (id, event.receipt))
            .collect();
        let mut recorded: HashSet<Uuid> = existing.keys().copied().collect();
        let items: Vec<&Item> = self.batch.iter().flat_map(|job| &job.items).collect();
        let mut linked = link(head, now, items.iter().map(|item| &item.event), existing);
        self.backend.insert(std::mem::take(&mut linked.entries)).await?;
        for Item { event, manifest } in items {
            if let Some(signature) = manifest {
                let new = recorded.insert(event.id);
                self.backend.insert_manifest(event, signature, new).await?;
            }
        }
        self.write_checkpoints().await?;
        self.backend.commit().await?;
        Ok((head, linked))
    }

    /// Writes the pending checkpoints, except those that contradict the last one: they would make the log look tampered
    /// with.
    async fn write_checkpoints(&mut self) -> Result<(), StoreError> {
        if self.checkpoints.is_empty() {
            return Ok(());
        }
        if let Some(last) = self.backend.last_checkpoint().await? {
            self.shared.observe_checkpoint_time(last.time);
            for (row, reply) in std::mem::take(&mut self.checkpoints) {
                match contradiction(&row.checkpoint, &last) {
                    // The receiver may be gone.
                    Some(error) => drop(reply.send(Err(error.to_string()))),
                    None => self.checkpoints.push((row, reply)),
                }
            }
        }
        for (row, _) in &self.checkpoints {
            let size = row.checkpoint.size;
            self.backend.insert_checkpoint(size, &row.note).await?;
        }
        Ok(())
    }

    /// Rejects the jobs with a conflict.
    fn reject(&mut self, conflicts: &[Conflict]) {
        // In reverse, so that the earlier indices stay valid.
        for Conflict { job, index, id } in conflicts.iter().rev().copied() {
            let Some(job) = self.batch.remove(job) else {
                continue;
            };
            tracing::error!(%id, "event not recorded in the audit log: another one has its id");
            match job.caller {
                // The receiver may be gone.
                Some(caller) => drop(caller.reply.send(Err(AppendError::Conflict { index, id }))),
                None => self
                    .shared
                    .count_lost(u64::try_from(job.items.len()).unwrap_or(u64::MAX)),
            }
        }
    }

    fn acknowledge(&mut self, before: Head, linked: &LinkedBatch) {
        self.backoff = BACKOFF;
        self.shared.head.send_replace(linked.head);
        self.shared.commit_done();
        self.shared.set_truncated(false);
        #[expect(clippy::cast_precision_loss, reason = "a batch has fewer than 2^53 events")]
        self.shared
            .metrics
            .batch
            .observe((linked.head.size - before.size) as f64);
        let mut receipts = linked.receipts.iter();
        let mut next = before.size + 1;
        for job in self.batch.drain(..) {
            let mut job_receipts = Vec::with_capacity(job.items.len());
            for (item, receipt) in job.items.iter().zip(receipts.by_ref()) {
                if receipt.is_some_and(|receipt| receipt.seq == next) {
                    self.shared.metrics.count_written(item.event.kind, 1);
                    next += 1;
                }
                job_receipts.push(*receipt);
            }
            reply_to_caller(&self.shared, job, job_receipts);
        }
        for (_, reply) in self.checkpoints.drain(..) {
            // The receiver may be gone.
            let _ = reply.send(Ok(()));
        }
    }

    async fn handle_failure(&mut self, error: &StoreError, now: Time) {
        tracing::error!(%error, retry_in = ?self.backoff, "cannot write the audit log");
        if matches!(error, StoreError::Truncated(_)) {
            self.shared.set_truncated(true);
        }
        self.backend.disconnect().await;
        for (_, reply) in self.checkpoints.drain(..) {
            let _ = reply.send(Err(error.to_string()));
        }
        if self.shared.commit_failed(error.to_string(), now) {
            // Records the outage in the log, and keeps the writer retrying until the store is back.
            let mut event = Event::of_host(Kind::Host, &self.settings.host, now);
            event.decision = Some(Decision::Failed);
            event.reason = Some("audit_store_failed".into());
            self.record(event, "since", now.to_string());
        }
        sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
    }
}

/// Whether a checkpoint contradicts the last one, which another host may have made.
fn contradiction(new: &Checkpoint, last: &Checkpoint) -> Option<StoreError> {
    if new.origin != last.origin {
        return Some(StoreError::OriginMismatch {
            stored: last.origin.clone(),
            wanted: new.origin.clone(),
        });
    }
    let back = last.time.micros().saturating_sub(new.time.micros());
    (new.size > last.size && back > SKEW).then_some(StoreError::ClockSkew(last.time))
}

/// Sends a caller its receipts; one is missing if its event has no canonical form.
fn reply_to_caller(shared: &Shared, job: Job, receipts: Vec<Option<Receipt>>) {
    let events = receipts.len();
    let receipts: Option<Vec<Receipt>> = receipts.into_iter().collect();
    // Frees the buffer before the caller continues and appends more.
    drop(job.permit);
    match (job.caller, receipts) {
        (Some(caller), Some(receipts)) => {
            // The receiver may be gone.
            let _ = caller.reply.send(Ok(receipts));
        }
        (Some(caller), None) => {
            let reason = "an event has no canonical form".into();
            let _ = caller.reply.send(Err(AppendError::Unavailable(reason)));
        }
        (None, Some(_)) => {}
        (None, None) => shared.count_lost(u64::try_from(events).unwrap_or(u64::MAX)),
    }
}
