//! The handle of a log that a host appends to.

mod open;
mod state;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::checkpoint_file::FileFault;
use crate::checkpointer::Checkpointer;
use crate::queue::{Caller, Item, Job, Message};
use crate::shared::Shared;
use crate::writer::Writer;
use crate::{
    AppendError, CheckpointSigner, Clock, Decision, Event, Kind, ManifestSignature, Metrics, OpenError,
    Receipt, Settings, StoreError, Time,
};

use open::Opened;
use state::age;

pub use state::State;

/// Limit of opening a store, migrations included.
const OPEN_LIMIT: Duration = Duration::from_secs(60);
/// Limit of waiting for the writer after it is aborted.
const ABORT_LIMIT: Duration = Duration::from_millis(100);
/// Limit of [`Log::close`].
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// An open log. Clones share it. When the last clone is dropped, the queue is written out; [`Log::close`] also makes a
/// last checkpoint and closes the store.
#[derive(Debug, Clone)]
pub struct Log {
    shared: Arc<Shared>,
    messages: mpsc::UnboundedSender<Message>,
    tasks: Arc<Mutex<Option<Tasks>>>,
    deadline: Duration,
    clock: Clock,
}

#[derive(Debug)]
struct Tasks {
    writer: JoinHandle<()>,
    checkpointer: JoinHandle<()>,
}

impl Log {
    /// Opens a log, creates its tables if needed, and compares its end with the stored and the external checkpoints. Must
    /// be called within a Tokio runtime with time and I/O.
    ///
    /// # Errors
    /// If the settings are invalid, the store fails, another process writes to it, or it is not the log that the
    /// checkpoints cover.
    pub async fn open(
        settings: Settings,
        signer: Arc<dyn CheckpointSigner>,
        metrics: Metrics,
    ) -> Result<Self, OpenError> {
        Self::open_with_clock(settings, signer, metrics, Clock::default()).await
    }

    /// [`Log::open`] with another clock.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub async fn open_with_clock(
        settings: Settings,
        signer: Arc<dyn CheckpointSigner>,
        metrics: Metrics,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        settings.check()?;
        let opened = timeout(OPEN_LIMIT, open::open(&settings)).await;
        let Opened {
            backend,
            head,
            checkpoint,
            fault,
        } = opened.map_err(|_| StoreError::Timeout(OPEN_LIMIT.as_secs()))??;
        let shared = Shared::new(metrics, settings.buffer, head, checkpoint);
        let (messages, receiver) = mpsc::unbounded_channel();
        let deadline = settings.deadline;
        let host = settings.host.clone();
        let checkpointer = Checkpointer::new(
            &settings,
            signer,
            Arc::clone(&shared),
            messages.downgrade(),
            clock.clone(),
        );
        let writer = Writer::new(settings, backend, receiver, Arc::clone(&shared), clock.clone());
        let tasks = Tasks {
            writer: tokio::spawn(writer.run()),
            checkpointer: tokio::spawn(checkpointer.run()),
        };
        let log = Self {
            shared,
            messages,
            tasks: Arc::new(Mutex::new(Some(tasks))),
            deadline,
            clock,
        };
        if let Some(FileFault { code, detail }) = fault {
            tracing::error!(%code, "the external checkpoint file: {detail}");
            let mut event = Event::of_host(Kind::Host, &host, log.clock.now());
            event.decision = Some(Decision::Failed);
            event.reason = Some(code.into());
            log.enqueue(event);
        }
        Ok(log)
    }

    /// Appends an event. It is durable when this returns.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append(&self, event: Event) -> Result<Receipt, AppendError> {
        self.append_item(event.into()).await
    }

    /// Appends events, in one commit and in this order. Those whose ids are in the log already are acknowledged with the
    /// position they have, and not written again.
    ///
    /// # Errors
    /// See [`AppendError`]. One invalid event rejects all of them.
    pub async fn append_all(&self, events: Vec<Event>) -> Result<Vec<Receipt>, AppendError> {
        self.append_items(events.into_iter().map(Item::from).collect())
            .await
    }

    /// Appends an event and, in the same commit, the signature it records. The event gets the signature's time: the
    /// verifier compares the two, and the clock may have been set in between.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn record_manifest(
        &self,
        signature: ManifestSignature,
        mut event: Event,
    ) -> Result<Receipt, AppendError> {
        signature.check()?;
        event.time = signature.signed_at;
        let manifest = Some(Box::new(signature));
        self.append_item(Item { event, manifest }).await
    }

    /// Queues an event without waiting for it. If the buffer is full the event is lost and counted, and the log records
    /// the number of lost events as soon as there is room.
    pub fn enqueue(&self, event: Event) {
        if let Err(reason) = event.check() {
            tracing::error!(%reason, kind = event.kind.name(), "invalid event: not recorded in the audit log");
            return self.shared.count_lost(1);
        }
        let permit = self.shared.try_reserve(1).filter(|_| !self.shared.closing());
        let Some(permit) = permit else {
            return self.shared.count_lost(1);
        };
        let job = Job {
            items: vec![event.into()],
            caller: None,
            permit: Some(permit),
        };
        if self.messages.send(Message::Job(job)).is_err() {
            self.shared.count_lost(1);
        }
    }

    /// The state of the log. Does not block.
    #[must_use]
    pub fn state(&self) -> State {
        let now = self.clock.now();
        self.check_tasks(now);
        let checkpoint = self.shared.checkpoint();
        State {
            store_failure: self.shared.store_failure(self.deadline, now),
            backlog: self.shared.backlog(),
            lost: self.shared.lost(),
            head: *self.shared.head.borrow(),
            checkpoint_age: checkpoint.as_ref().map(|c| age(c.time, now)),
            checkpoint,
            checkpoint_error: self.shared.checkpoint_error(),
            checkpoint_failures: self.shared.checkpoint_failures(),
            clock_steps: self.shared.clock_steps(),
        }
    }

    /// Checks that the tasks still run. While the log is open, only a panic ends them.
    fn check_tasks(&self, now: Time) {
        if self.shared.closing() {
            return;
        }
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Tasks { writer, checkpointer }) = &*tasks else {
            return;
        };
        if writer.is_finished() {
            self.shared.writer_died(now);
        }
        if checkpointer.is_finished() {
            self.shared.checkpointer_died();
        }
    }

    /// [`Log::close_within`] 30 seconds.
    pub async fn close(self) -> usize {
        self.close_within(CLOSE_LIMIT).await
    }

    /// Writes out the queue, makes a last checkpoint, and closes the store. Later events of other clones are rejected.
    /// Takes no longer than `limit`. Returns the number of queued events that a failing store did not accept in time, and
    /// that are lost.
    pub async fn close_within(self, limit: Duration) -> usize {
        let began = Instant::now();
        self.shared.closing.store(true, Ordering::Release);
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Tasks {
            mut writer,
            checkpointer,
        }) = tasks
        else {
            return 0;
        };
        let lost = self.drain(began + limit / 2).await;
        // The checkpointer has the writer store the last checkpoint, so the writer ends last.
        self.shared.closes.notify_one();
        let abort_checkpointer = checkpointer.abort_handle();
        let remaining = |part: Duration| part.saturating_sub(began.elapsed());
        if timeout(remaining(limit / 4 * 3), checkpointer).await.is_err() {
            tracing::warn!(
                "no last checkpoint of the audit log: the signer did not respond in time; the next checkpoint covers \
                 what was written"
            );
            abort_checkpointer.abort();
        }
        self.shared.finished.store(true, Ordering::Release);
        self.shared.wake.notify_one();
        if timeout(remaining(limit), &mut writer).await.is_err() {
            tracing::error!("the audit store does not respond: closed without waiting for it");
            writer.abort();
            // Its locks are free once it has ended.
            let _ = timeout(ABORT_LIMIT, writer).await;
        }
        lost
    }

    /// Waits until the queue is empty. Returns the number of events left in it.
    async fn drain(&self, until: Instant) -> usize {
        while self.shared.backlog() > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let left = self.shared.backlog();
        if left > 0 {
            tracing::error!(
                events = left,
                "events lost: the audit log closes while its store fails"
            );
        }
        left
    }

    async fn append_item(&self, item: Item) -> Result<Receipt, AppendError> {
        let receipts = self.append_items(vec![item]).await?;
        let missing = || AppendError::Unavailable("the writer returned no receipt".into());
        receipts.into_iter().next().ok_or_else(missing)
    }

    async fn append_items(&self, items: Vec<Item>) -> Result<Vec<Receipt>, AppendError> {
        let began = Instant::now();
        for (index, item) in items.iter().enumerate() {
            let invalid = |reason| AppendError::Invalid { index, reason };
            item.event.check().map_err(invalid)?;
        }
        if items.is_empty() {
            return Ok(Vec::new());
        }
        if self.shared.closing() {
            return Err(closed());
        }
        // Other events are being retried already; waiting for a store that is known to fail would hold up every request.
        if self.shared.backlog() > 0
            && let Some(reason) = self.shared.failing_for(self.deadline)
        {
            return Err(AppendError::Unavailable(reason));
        }
        let permit = self
            .shared
            .try_reserve(items.len())
            .ok_or(AppendError::BufferFull)?;
        let (reply, receipts) = oneshot::channel();
        let caller = Caller {
            reply,
            deadline: began + self.deadline,
        };
        let job = Job {
            items,
            caller: Some(caller),
            permit: Some(permit),
        };
        self.messages.send(Message::Job(job)).map_err(|_| closed())?;
        let result = match timeout(self.deadline, receipts).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(closed()),
            Err(_) => Err(match self.shared.store_failure(Duration::MAX, self.clock.now()) {
                Some(failure) => AppendError::Unavailable(failure.reason),
                None => AppendError::DeadlineExceeded,
            }),
        };
        self.shared.metrics.append.observe(began.elapsed().as_secs_f64());
        result
    }
}

fn closed() -> AppendError {
    AppendError::Unavailable("it is closed".into())
}
