//! Makes checkpoints in a task of its own: a signer that fails, or a server that hangs, delays no event.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_files::with_deadline;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::queue::Message;
use crate::settings::{CheckpointSettings, PostTarget};
use crate::shared::Shared;
use crate::store::NewCheckpoint;
use crate::{Checkpoint, CheckpointSigner, Clock, Head, Note, Settings, Signature, checkpoint_file};

/// The shortest time between two checkpoints: each costs a signature of the KMS.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The delay of the next attempt after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// How often the checkpointer checks whether a checkpoint is due.
const TICK: Duration = Duration::from_millis(200);
/// Limit of each stage: signing, storing, writing the file.
const STAGE_LIMIT: Duration = Duration::from_secs(10);

pub(crate) struct Checkpointer {
    origin: String,
    settings: CheckpointSettings,
    signer: Arc<dyn CheckpointSigner>,
    shared: Arc<Shared>,
    /// Weak, so that the writer ends when the last [`crate::Log`] is dropped.
    messages: mpsc::WeakUnboundedSender<Message>,
    clock: Clock,
    /// The number of events that the last checkpoint covers.
    covered: u64,
    /// When it was made, or when the checkpointer started.
    last: Instant,
    not_before: Instant,
}

/// A checkpoint failed in this stage.
#[derive(Debug, thiserror::Error)]
#[error("{stage}: {reason}")]
struct Failure {
    stage: &'static str,
    reason: String,
}

impl Failure {
    fn in_stage(stage: &'static str) -> impl Fn(String) -> Self {
        move |reason| Self { stage, reason }
    }
}

impl Checkpointer {
    pub(crate) fn new(
        settings: &Settings,
        signer: Arc<dyn CheckpointSigner>,
        shared: Arc<Shared>,
        messages: mpsc::WeakUnboundedSender<Message>,
        clock: Clock,
    ) -> Self {
        let covered = shared.checkpoint().map_or(0, |checkpoint| checkpoint.size);
        let now = Instant::now();
        Self {
            origin: settings.origin.clone(),
            settings: settings.checkpoints.clone(),
            signer,
            shared,
            messages,
            clock,
            covered,
            last: now,
            not_before: now,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let age = i64::try_from(self.last.elapsed().as_secs()).unwrap_or(i64::MAX);
            self.shared.metrics.checkpoint_age.set(age);
            let closing = self.shared.closing() && self.shared.backlog() == 0;
            let head = *self.shared.head.borrow();
            if head.size > self.covered && (closing || self.is_due(head)) {
                self.make_checkpoint(head).await;
            }
            if closing || self.messages.strong_count() == 0 {
                return;
            }
            let _ = timeout(TICK, self.shared.closes.notified()).await;
        }
    }

    fn is_due(&self, head: Head) -> bool {
        let elapsed = self.last.elapsed();
        let enough_events = head.size - self.covered >= self.settings.every_events
            && elapsed >= MIN_INTERVAL.min(self.settings.every);
        let due = enough_events || elapsed >= self.settings.every || self.shared.is_truncated();
        Instant::now() >= self.not_before && due
    }

    async fn make_checkpoint(&mut self, head: Head) {
        let checkpoint = Checkpoint {
            origin: self.origin.clone(),
            size: head.size,
            hash: head.hash,
            // The clock may have gone back, or another host's may be ahead. A checkpoint must not be older than the
            // events it covers, nor than the checkpoint before it.
            time: self
                .clock
                .now()
                .max(head.recorded)
                .max(self.shared.latest_checkpoint_time()),
        };
        match self.sign_and_store(checkpoint.clone()).await {
            Ok(post_failure) => {
                self.covered = checkpoint.size;
                self.last = Instant::now();
                self.shared.metrics.checkpoint_age.set(0);
                self.shared.set_checkpoint(checkpoint);
                // No retry: the next checkpoint covers the same events.
                if let Some(failure) = post_failure {
                    self.record_failure(&failure);
                }
            }
            Err(failure) => {
                self.record_failure(&failure);
                self.not_before = Instant::now() + RETRY.min(self.settings.every);
            }
        }
    }

    fn record_failure(&self, Failure { stage, reason }: &Failure) {
        self.shared.checkpoint_failed(stage, reason);
        tracing::error!(%stage, %reason, "no checkpoint of the audit log was made");
    }

    /// Signs a checkpoint, and stores it in all configured places. A failure of the POST is returned as a value: the
    /// checkpoint is made all the same.
    async fn sign_and_store(&self, checkpoint: Checkpoint) -> Result<Option<Failure>, Failure> {
        let note = self.sign(checkpoint).await?;
        // The store first: a checkpoint that is kept elsewhere and missing from the store looks like tampering. If the
        // store lost events, that is what happened: the external checkpoint shows it, even after the host restarts.
        if !self.shared.is_truncated() {
            self.store(&note).await?;
        }
        let written = match &self.settings.file {
            Some(path) => append_to_file(path.clone(), note.clone()).await,
            None => Ok(()),
        };
        let posted = match &self.settings.post {
            Some(target) => post(target, &note).await,
            None => Ok(()),
        };
        written.map(|()| posted.err())
    }

    async fn sign(&self, checkpoint: Checkpoint) -> Result<Note, Failure> {
        let failed = Failure::in_stage("sign");
        let body = checkpoint.body();
        let signed = timeout(STAGE_LIMIT, self.signer.sign(body.as_bytes())).await;
        let signed = signed
            .map_err(|_| failed("the signer did not respond in time".into()))?
            .map_err(&failed)?;
        let signature = Signature::new(signed.signer_id, &signed.public_key, signed.signature);
        if !signature.verifies(&signed.public_key, &body) {
            return Err(failed("the signature does not match the signer's key".into()));
        }
        Note::new(checkpoint, vec![signature]).map_err(|error| failed(error.to_string()))
    }

    async fn store(&self, note: &Note) -> Result<(), Failure> {
        let failed = Failure::in_stage("store");
        let gone = || failed("the writer has stopped".into());
        let row = NewCheckpoint {
            checkpoint: note.checkpoint.clone(),
            note: note.to_string(),
        };
        let (reply, stored) = oneshot::channel();
        let messages = self.messages.upgrade().ok_or_else(gone)?;
        messages
            .send(Message::Checkpoint(row, reply))
            .map_err(|_| gone())?;
        drop(messages);
        match timeout(STAGE_LIMIT, stored).await {
            Ok(Ok(stored)) => stored.map_err(failed),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(failed("the store did not respond in time".into())),
        }
    }
}

async fn append_to_file(path: PathBuf, note: Note) -> Result<(), Failure> {
    let failed = Failure::in_stage("file");
    let shown = path.display().to_string();
    let file = path.clone();
    let written = with_deadline(&path, STAGE_LIMIT, move || checkpoint_file::append(&file, &note)).await;
    let written = written.map_err(std::io::Error::from).and_then(|written| written);
    written.map_err(|error| failed(format!("{shown}: {error}")))
}

async fn post(target: &PostTarget, note: &Note) -> Result<(), Failure> {
    let failed = Failure::in_stage("post");
    let request = target
        .client
        .post(target.url.clone())
        .header("content-type", "text/plain; charset=utf-8")
        .body(note.to_string())
        .timeout(target.timeout);
    // The URL may contain a secret.
    let response = request
        .send()
        .await
        .map_err(|error| failed(error.without_url().to_string()))?;
    let status = response.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(failed(format!("the server responded with {status}")))
    }
}
