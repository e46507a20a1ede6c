//! The handle: what the rest of the host sees of the log.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::checkpoint_file::{self, Fault, Kept};
use crate::checkpointer::{CheckpointSigner, Checkpointer};
use crate::queue::{Caller, Item, Job, Message, Problem, Shared};
use crate::store::{self, Backend};
use crate::writer::Writer;
use crate::{
    AppendError, Checkpoint, Decision, Event, Hash, Head, Invalid, Kind, Metrics, OpenError, Settings, Store,
    StoreError, Time,
};

/// How long opening a store may take, migrations included.
const OPEN_LIMIT: Duration = Duration::from_secs(60);
/// How long the writer may take to be gone once it is aborted.
const ABORT_LIMIT: Duration = Duration::from_millis(100);
/// How long closing may take.
const CLOSE_LIMIT: Duration = Duration::from_secs(30);

/// An event's place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its number, from 1.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

/// A signature over a manifest, a row of `manifest_signatures`. Its id, subject and request id are its event's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSignature {
    /// SHA-256 of the manifest's canonical form.
    pub manifest_hash: Hash,
    /// An Ed25519 signature of that hash.
    pub signature: [u8; 64],
    /// Who signed.
    pub signer_id: String,
    /// When.
    pub signed_at: Time,
}

/// How the log does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// What is wrong with the store; `None` if it works.
    pub problem: Option<Problem>,
    /// Events that wait to be written.
    pub backlog: usize,
    /// Events lost since the start because the buffer was full.
    pub lost: u64,
    /// The end of the log.
    pub head: Head,
    /// The last checkpoint of this host.
    pub checkpoint: Option<Checkpoint>,
    /// How old it is; `None` if there is none.
    pub checkpoint_age: Option<Duration>,
    /// Why the last try to make one failed; `None` if it did not.
    pub checkpoint_fault: Option<String>,
    /// Checkpoints since the start that were not signed, stored, or put where they are kept.
    pub checkpoint_failures: u64,
    /// How often the clock went back.
    pub clock_steps: u64,
}

/// Tells the time; tests have their own.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Time + Send + Sync>);

impl Clock {
    /// A clock that asks `now`.
    #[must_use]
    pub fn new(now: impl Fn() -> Time + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Time {
        (self.0)()
    }
}

impl Default for Clock {
    /// The system's.
    fn default() -> Self {
        Self::new(|| Time::of(SystemTime::now()))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// An open log. Clones write to the same; it is written out when the last one is dropped, and closed by
/// [`Log::close`].
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
    /// Opens a log, makes its tables if need be, and compares its end with the checkpoints that are kept. Must be
    /// called within a Tokio runtime with time and I/O.
    ///
    /// # Errors
    /// If the store does not work, someone else writes to it, or it is not the log that the checkpoints tell of.
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
    /// The same.
    pub async fn open_with_clock(
        settings: Settings,
        signer: Arc<dyn CheckpointSigner>,
        metrics: Metrics,
        clock: Clock,
    ) -> Result<Self, OpenError> {
        check(&settings)?;
        let opened = timeout(OPEN_LIMIT, open(&settings)).await;
        let opened = opened.map_err(|_| StoreError::Slow(OPEN_LIMIT.as_secs()))??;
        let (backend, head, checkpoint, fault) = opened;
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
        if let Some(Fault { code, detail }) = fault {
            tracing::error!(%code, "the file of checkpoints: {detail}");
            let mut event = own(Kind::Host, &host, log.clock.now());
            event.decision = Some(Decision::Failed);
            event.reason = Some(code.into());
            log.note(event);
        }
        Ok(log)
    }

    /// Writes an event. It is durable when this returns.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn append(&self, event: Event) -> Result<Receipt, AppendError> {
        self.one(event.into()).await
    }

    /// Writes events, all in one commit and in this order. Those that are in the log already, by their ids, are
    /// acknowledged with the place they have, and not written again.
    ///
    /// # Errors
    /// See [`AppendError`]. One event that no log takes refuses all of them.
    pub async fn append_all(&self, events: Vec<Event>) -> Result<Vec<Receipt>, AppendError> {
        self.all(events.into_iter().map(Item::from).collect()).await
    }

    /// Writes an event and, in the same commit, the signature it tells of. The event gets the signature's time: whoever
    /// verifies the log compares the two, and the clock may have been set in between.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn record_manifest(
        &self,
        signature: ManifestSignature,
        mut event: Event,
    ) -> Result<Receipt, AppendError> {
        let id = (
            signature.signer_id.len() <= Event::LONGEST,
            signature.signer_id.contains('\0'),
        );
        let field = "signer_id";
        let most = Event::LONGEST;
        match id {
            (true, false) => {}
            (true, true) => return Err(Invalid::Nul { field }.into()),
            (false, _) => return Err(Invalid::Long { field, most }.into()),
        }
        event.time = signature.signed_at;
        let manifest = Some(Box::new(signature));
        self.one(Item { event, manifest }).await
    }

    /// Hands over an event without waiting. If the buffer is full it is lost, counted, and the log tells how many were
    /// lost as soon as there is room.
    pub fn note(&self, event: Event) {
        if let Err(reason) = event.check() {
            tracing::error!(%reason, kind = event.kind.name(), "event not taken into the audit log");
            return self.shared.lose(1);
        }
        let room = self.shared.room(1).filter(|_| !self.shared.closing());
        let Some(room) = room else {
            return self.shared.lose(1);
        };
        let job = Job {
            items: vec![event.into()],
            caller: None,
            room: Some(room),
        };
        if self.messages.send(Message::Job(job)).is_err() {
            self.shared.lose(1);
        }
    }

    /// How the log does. Waits for nothing.
    #[must_use]
    pub fn state(&self) -> State {
        let now = self.clock.now();
        self.see_tasks(now);
        let checkpoint = self.shared.checkpoint();
        State {
            problem: self.shared.problem(self.deadline, now),
            backlog: self.shared.backlog(),
            lost: self.shared.lost_ever(),
            head: *self.shared.head.borrow(),
            checkpoint_age: checkpoint.as_ref().map(|c| age(c.time, now)),
            checkpoint,
            checkpoint_fault: self.shared.checkpoint_fault(),
            checkpoint_failures: self.shared.checkpoint_failures(),
            clock_steps: self.shared.clock_steps(),
        }
    }

    /// Sees whether the tasks still run. Unless the log is closed, they end by a panic only.
    fn see_tasks(&self, now: Time) {
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

    /// [`Log::close_within`] half a minute.
    pub async fn close(self) -> usize {
        self.close_within(CLOSE_LIMIT).await
    }

    /// Writes out what waits, makes a last checkpoint, and closes the store. Events that come later, by other clones,
    /// are refused. Takes no longer than `limit`; how many events a broken store did not take until then, which are lost.
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
        let lost = self.drained(began + limit / 2).await;
        // The maker of checkpoints asks the writer to store the last one, so the writer is the last to end.
        self.shared.closes.notify_one();
        let making = checkpointer.abort_handle();
        let left = |part: Duration| part.saturating_sub(began.elapsed());
        if timeout(left(limit / 4 * 3), checkpointer).await.is_err() {
            tracing::warn!(
                "no last checkpoint of the audit log: no signature in time; the next one covers what was written"
            );
            making.abort();
        }
        self.shared.finished.store(true, Ordering::Release);
        self.shared.wake.notify_one();
        if timeout(left(limit), &mut writer).await.is_err() {
            tracing::error!("the audit log's store does not answer: it is left as it is");
            writer.abort();
            // Its locks are free once it is gone.
            let _ = timeout(ABORT_LIMIT, writer).await;
        }
        lost
    }

    /// Waits until nothing waits to be written; how many events do at the end.
    async fn drained(&self, until: Instant) -> usize {
        while self.shared.backlog() > 0 && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let left = self.shared.backlog();
        if left > 0 {
            tracing::error!(
                events = left,
                "events lost: the audit log closes and its store does not work"
            );
        }
        left
    }

    async fn one(&self, item: Item) -> Result<Receipt, AppendError> {
        let receipts = self.all(vec![item]).await?;
        let lost = || AppendError::Unavailable("the writer gave no receipt".into());
        receipts.into_iter().next().ok_or_else(lost)
    }

    async fn all(&self, items: Vec<Item>) -> Result<Vec<Receipt>, AppendError> {
        let asked = Instant::now();
        for (at, item) in items.iter().enumerate() {
            let invalid = |reason| AppendError::Invalid { at, reason };
            item.event.check().map_err(invalid)?;
        }
        if items.is_empty() {
            return Ok(Vec::new());
        }
        if self.shared.closing() {
            return Err(closed());
        }
        // Someone else tries already; waiting for what is known to fail would hold up every request.
        if self.shared.backlog() > 0
            && let Some(reason) = self.shared.broken_for(self.deadline)
        {
            return Err(AppendError::Unavailable(reason));
        }
        let room = self.shared.room(items.len()).ok_or(AppendError::Full)?;
        let (reply, answer) = oneshot::channel();
        let caller = Caller {
            reply,
            until: asked + self.deadline,
        };
        let job = Job {
            items,
            caller: Some(caller),
            room: Some(room),
        };
        self.messages.send(Message::Job(job)).map_err(|_| closed())?;
        let answer = match timeout(self.deadline, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(closed()),
            Err(_) => Err(match self.shared.problem(Duration::MAX, self.clock.now()) {
                Some(problem) => AppendError::Unavailable(problem.reason),
                None => AppendError::Late,
            }),
        };
        self.shared.metrics.append.observe(asked.elapsed().as_secs_f64());
        answer
    }
}

fn closed() -> AppendError {
    AppendError::Unavailable("it is closed".into())
}

/// From one moment to another; none if the clock went back.
pub(crate) fn age(since: Time, now: Time) -> Duration {
    Duration::from_micros(now.micros().saturating_sub(since.micros()))
}

fn check(settings: &Settings) -> Result<(), OpenError> {
    let wrong = |what| Err(OpenError::Settings(what));
    if !Checkpoint::is_origin(&settings.origin) {
        return wrong("the origin is one line of 1 to 256 bytes, such as postern.example/audit");
    }
    if settings.host.len() > Event::LONGEST || settings.host.contains('\0') {
        return wrong("the host's name has at most 256 bytes");
    }
    if settings.batch == 0 || settings.buffer < settings.batch {
        return wrong("a batch has at least one event, and the buffer is not smaller");
    }
    if settings.checkpoints.every_events == 0 || settings.checkpoints.every.is_zero() {
        return wrong("checkpoints are made after one event or more, and after more than no time");
    }
    if settings.deadline.is_zero() {
        return wrong("the deadline is more than no time");
    }
    Ok(())
}

/// A store, its head, the last checkpoint, and what is wrong with the file of checkpoints.
type Opened = (Backend, Head, Option<Checkpoint>, Option<Fault>);

/// Opens the store, and the files beside it, and sees whether it is the log that the checkpoints tell of.
async fn open(settings: &Settings) -> Result<Opened, OpenError> {
    let kept = match &settings.checkpoints.file {
        Some(path) => Some((
            path.as_path(),
            checkpoint_file::read(path, &settings.origin).await?,
        )),
        None => None,
    };
    let mut backend = store::open(&settings.store).await?;
    match compare(&mut backend, settings, kept).await {
        Ok((head, checkpoint, fault)) => Ok((backend, head, checkpoint, fault)),
        Err(error) => {
            backend.disconnect().await;
            Err(error)
        }
    }
}

/// The head of a store, if it goes with the checkpoints outside it and in it; and the last of them.
async fn compare(
    backend: &mut Backend,
    settings: &Settings,
    kept: Option<(&Path, Kept)>,
) -> Result<(Head, Option<Checkpoint>, Option<Fault>), OpenError> {
    // In this order: other hosts append meanwhile, and a checkpoint covers nothing that is not there before it.
    let stored = backend.last_checkpoint().await?;
    let head = backend.verified_head().await?;
    if let Some(other) = stored
        .as_ref()
        .filter(|checkpoint| checkpoint.origin != settings.origin)
    {
        return Err(OpenError::Origin {
            stored: other.origin.clone(),
            wanted: settings.origin.clone(),
        });
    }
    if let Some((path, kept)) = &kept {
        backend
            .agrees(&kept.all, head, &path.display().to_string())
            .await?;
    }
    if let Some(checkpoint) = &stored {
        let one = BTreeSet::from([(checkpoint.size, checkpoint.hash)]);
        backend
            .agrees(&one, head, "its own table audit_checkpoints")
            .await?;
    }
    let shared = matches!(settings.store, Store::Postgres(_));
    let fault = kept
        .as_ref()
        .and_then(|(path, kept)| kept.fault(path, stored.as_ref(), shared));
    let last = kept.and_then(|(_, Kept { last, .. })| last);
    Ok((head, stored.or(last), fault))
}

/// What the log itself tells, in the host's name.
pub(crate) fn own(kind: Kind, host: &str, now: Time) -> Event {
    Event {
        gateway: Some(host.to_owned()),
        ..Event::new(kind, now)
    }
}
