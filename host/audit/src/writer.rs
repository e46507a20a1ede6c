//! The one task that writes. It takes what waits, puts it behind the head in one transaction, and tells all who wait.
//!
//! If a commit fails, nobody knows whether it happened. So the connection is given up, the head is read again from the
//! store, and the same events are tried again: those that are there already are found by their ids.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::conflict::{Conflict, conflicts};
use crate::link::{Links, link};
use crate::log::{Clock, own};
use crate::queue::{Item, Job, Message, Messages, Shared};
use crate::store::{Backend, NewCheckpoint};
use crate::verify::SKEW;
use crate::{
    AppendError, Checkpoint, Decision, Event, Head, Kind, Receipt, Settings, Store, StoreError, Time,
};

use std::sync::Arc;

/// How long one commit may take before it counts as failed; callers wait for their own deadline only.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);
/// Between a failure and the next try: twice as long after each.
const BACKOFF: Duration = Duration::from_millis(20);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);
/// How often it is seen whether the store is intact while nothing is written.
const LOOK: Duration = Duration::from_secs(1);
/// How often events are written again at once because another host wrote at the same time. Each time one host gets on.
const COLLISIONS: usize = 100;
/// A clock that goes back by less is corrected, not set.
const STEP: Duration = Duration::from_secs(1);

type Row = (NewCheckpoint, oneshot::Sender<Result<(), String>>);

pub(crate) struct Writer {
    settings: Settings,
    backend: Backend,
    messages: Messages,
    shared: Arc<Shared>,
    clock: Clock,
    /// What is written next, or again.
    batch: VecDeque<Job>,
    rows: Vec<Row>,
    /// What the clock said last, if need be before the host was started.
    seen: Time,
    backoff: Duration,
    /// Nobody is left who could send.
    ended: bool,
}

impl Writer {
    pub(crate) fn new(
        settings: Settings,
        backend: Backend,
        messages: Messages,
        shared: Arc<Shared>,
        clock: Clock,
    ) -> Self {
        let seen = match &settings.store {
            Store::Sqlite(_) => shared.head.borrow().recorded,
            // Another host may have written that, by a clock of its own.
            Store::Postgres(_) => clock.now(),
        };
        Self {
            settings,
            backend,
            messages,
            shared,
            clock,
            batch: VecDeque::new(),
            rows: Vec::new(),
            seen,
            backoff: BACKOFF,
            ended: false,
        }
    }

    pub(crate) async fn run(mut self) {
        while self.fill().await {
            let now = self.read_clock();
            self.shared.begin_commit();
            let began = Instant::now();
            let written = timeout(COMMIT_LIMIT, self.write(now)).await;
            match written.unwrap_or(Err(StoreError::Slow(COMMIT_LIMIT.as_secs()))) {
                Ok((before, links)) => {
                    self.shared.metrics.commit.observe(began.elapsed().as_secs_f64());
                    self.acknowledge(before, &links);
                }
                Err(error) => self.failed(&error, now).await,
            }
        }
        self.backend.close().await;
    }

    /// Waits until there is something to write; false at the end.
    async fn fill(&mut self) -> bool {
        loop {
            self.take_what_waits();
            self.turn_away_late();
            let lost = self.shared.take_lost();
            if lost > 0 {
                let now = self.clock.now();
                self.tell(own(Kind::Lost, &self.settings.host, now), "count", lost);
            }
            if !self.batch.is_empty() || !self.rows.is_empty() {
                return true;
            }
            if self.ended || self.shared.finished() {
                return false;
            }
            tokio::select! {
                message = self.messages.recv() => match message {
                    Some(message) => self.take(message),
                    None => self.ended = true,
                },
                () = self.shared.wake.notified() => {}
                () = sleep(LOOK) => self.look().await,
            }
        }
    }

    /// Sees whether the store is still what it was left as: who cut it while nothing is written would be noticed by the
    /// next event only.
    async fn look(&mut self) {
        let last = *self.shared.head.borrow();
        let intact = timeout(COMMIT_LIMIT, self.backend.is_intact(last)).await;
        if let Err(error) = intact.unwrap_or(Err(StoreError::Slow(COMMIT_LIMIT.as_secs()))) {
            let now = self.clock.now();
            self.failed(&error, now).await;
        }
    }

    fn take_what_waits(&mut self) {
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
                    self.ended = true;
                    return;
                }
            }
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Job(job) => self.batch.push_back(job),
            Message::Checkpoint(row, reply) => self.rows.push((row, reply)),
        }
    }

    /// Drops what nobody waits for any more: its caller was told that it is not in the log.
    fn turn_away_late(&mut self) {
        let now = Instant::now();
        self.batch
            .retain(|job| job.caller.as_ref().is_none_or(|caller| now < caller.until));
    }

    /// Puts an event of the log's own before what waits. It stays until it is written.
    fn tell(&mut self, mut event: Event, name: &str, value: impl Into<serde_json::Value>) {
        event.detail.insert(name.into(), value.into());
        self.batch.push_front(Job {
            items: vec![event.into()],
            caller: None,
            room: None,
        });
    }

    fn read_clock(&mut self) -> Time {
        let now = self.clock.now();
        let back = Duration::from_micros(self.seen.micros().saturating_sub(now.micros()));
        self.seen = now;
        if back > STEP {
            self.shared.clock_stepped();
            tracing::warn!(?back, "the clock went back");
            let micros = u64::try_from(back.as_micros()).unwrap_or(u64::MAX);
            self.tell(own(Kind::Clock, &self.settings.host, now), "back_us", micros);
        }
        now
    }

    /// Writes all that was taken, again if another host wrote at the same time. Gives the head before it, and what was
    /// written behind that.
    async fn write(&mut self, now: Time) -> Result<(Head, Links), StoreError> {
        for _ in 0..COLLISIONS {
            match self.write_once(now).await {
                Err(StoreError::Collided) => self.backend.roll_back().await?,
                written => return written,
            }
        }
        self.write_once(now).await
    }

    /// One transaction.
    async fn write_once(&mut self, now: Time) -> Result<(Head, Links), StoreError> {
        let last = *self.shared.head.borrow();
        if self.backend.connect().await? {
            self.backend.holds(last.size, last.hash).await?;
        }
        self.backend.is_intact(last).await?;
        let head = self.backend.begin().await?;
        if head.size < last.size || (head.size == last.size && head.hash != last.hash) {
            return Err(StoreError::Cut(last.size));
        }
        let items = self.batch.iter().flat_map(|job| &job.items);
        let ids: Vec<_> = items.map(|item| item.event.id).collect();
        let known = self.backend.known(&ids).await?;
        self.refuse(&conflicts(&self.batch, &known));
        let known: HashMap<_, _> = known.into_iter().map(|(id, known)| (id, known.receipt)).collect();
        let mut signed: HashSet<Uuid> = known.keys().copied().collect();
        let items: Vec<&Item> = self.batch.iter().flat_map(|job| &job.items).collect();
        let mut links = link(head, now, items.iter().map(|item| &item.event), known);
        self.backend.insert(std::mem::take(&mut links.entries)).await?;
        for Item { event, manifest } in items {
            if let Some(signature) = manifest {
                let new = signed.insert(event.id);
                self.backend.insert_manifest(event, signature, new).await?;
            }
        }
        self.write_rows().await?;
        self.backend.commit().await?;
        Ok((head, links))
    }

    /// Writes the checkpoints that wait, but for those that would make the log look tampered with beside the last one.
    async fn write_rows(&mut self) -> Result<(), StoreError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        if let Some(last) = self.backend.last_checkpoint().await? {
            self.shared.checkpoint_seen(last.time);
            for (row, reply) in std::mem::take(&mut self.rows) {
                match contradicts(&row.checkpoint, &last) {
                    // Who asked may have gone.
                    Some(error) => drop(reply.send(Err(error.to_string()))),
                    None => self.rows.push((row, reply)),
                }
            }
        }
        for (row, _) in &self.rows {
            let size = row.checkpoint.size;
            self.backend.insert_checkpoint(size, &row.note).await?;
        }
        Ok(())
    }

    /// Turns away the jobs in which an event has another's id.
    fn refuse(&mut self, conflicts: &[Conflict]) {
        // The last first, so that the places of those before it stay.
        for Conflict { job, at, id } in conflicts.iter().rev().copied() {
            let Some(job) = self.batch.remove(job) else {
                continue;
            };
            tracing::error!(%id, "an event was not taken into the audit log: another one has its id");
            match job.caller {
                // Who asked may have gone.
                Some(caller) => drop(caller.reply.send(Err(AppendError::Conflict { at, id }))),
                None => self
                    .shared
                    .lose(u64::try_from(job.items.len()).unwrap_or(u64::MAX)),
            }
        }
    }

    fn acknowledge(&mut self, before: Head, links: &Links) {
        self.backoff = BACKOFF;
        self.shared.head.send_replace(links.head);
        self.shared.commit_done();
        self.shared.set_cut(false);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch has fewer events than a double can count"
        )]
        self.shared
            .metrics
            .batch
            .observe((links.head.size - before.size) as f64);
        let mut receipts = links.receipts.iter();
        let mut next = before.size + 1;
        for job in self.batch.drain(..) {
            let mut places = Vec::with_capacity(job.items.len());
            for (item, receipt) in job.items.iter().zip(receipts.by_ref()) {
                if receipt.is_some_and(|receipt| receipt.seq == next) {
                    self.shared.metrics.written(item.event.kind, 1);
                    next += 1;
                }
                places.push(*receipt);
            }
            answer(&self.shared, job, places);
        }
        for (_, reply) in self.rows.drain(..) {
            // Who asked may have gone.
            let _ = reply.send(Ok(()));
        }
    }

    async fn failed(&mut self, error: &StoreError, now: Time) {
        tracing::error!(%error, retry_in = ?self.backoff, "the audit log was not written");
        if matches!(error, StoreError::Cut(_)) {
            self.shared.set_cut(true);
        }
        self.backend.disconnect().await;
        for (_, reply) in self.rows.drain(..) {
            let _ = reply.send(Err(error.to_string()));
        }
        if self.shared.commit_failed(error.to_string(), now) {
            // So that the gap is told of in the log; it also keeps the writer trying until the store is back.
            let mut event = own(Kind::Host, &self.settings.host, now);
            event.decision = Some(Decision::Failed);
            event.reason = Some("audit_store_failed".into());
            self.tell(event, "since", now.to_string());
        }
        sleep(self.backoff).await;
        self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
    }
}

/// Why a checkpoint cannot stand beside the last one, which another host may have made.
fn contradicts(one: &Checkpoint, last: &Checkpoint) -> Option<StoreError> {
    if one.origin != last.origin {
        return Some(StoreError::Origin {
            stored: last.origin.clone(),
            wanted: one.origin.clone(),
        });
    }
    let back = last.time.micros().saturating_sub(one.time.micros());
    (one.size > last.size && back > SKEW).then_some(StoreError::Clocks(last.time))
}

/// Tells a caller the places of its events.
fn answer(shared: &Shared, job: Job, places: Vec<Option<Receipt>>) {
    let events = places.len();
    let receipts: Option<Vec<Receipt>> = places.into_iter().collect();
    // Places in the buffer are free before the caller goes on and asks for more.
    drop(job.room);
    match (job.caller, receipts) {
        (Some(caller), Some(receipts)) => {
            // Who asked may have gone.
            let _ = caller.reply.send(Ok(receipts));
        }
        (Some(caller), None) => {
            let reason = "an event has no canonical form".into();
            let _ = caller.reply.send(Err(AppendError::Unavailable(reason)));
        }
        (None, Some(_)) => {}
        (None, None) => shared.lose(u64::try_from(events).unwrap_or(u64::MAX)),
    }
}
