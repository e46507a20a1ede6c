//! Makes checkpoints beside the writer: a signer that fails, or a server that hangs, holds up no event.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_files::within;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::log::Clock;
use crate::queue::{Message, Shared};
use crate::settings::{Checkpoints, Post};
use crate::store::NewCheckpoint;
use crate::{Checkpoint, Head, Note, Settings, Signature, checkpoint_file};

/// A signature over a checkpoint, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The signer's id, which names the signature in the note.
    pub signer_id: String,
    /// An Ed25519 signature (RFC 8032) of the bytes that were to be signed.
    pub signature: [u8; 64],
    /// The signer's public key.
    pub public_key: [u8; 32],
}

/// What a signer answers with, or why it does not, once it knows.
pub type Signing<'a> = Pin<Box<dyn Future<Output = Result<Signed, String>> + Send + 'a>>;

/// Signs checkpoints.
pub trait CheckpointSigner: Send + Sync + 'static {
    /// Signs these bytes as they are: the body of a checkpoint.
    fn sign<'a>(&'a self, body: &'a [u8]) -> Signing<'a>;
}

/// No two checkpoints are closer: each costs a signature of the KMS.
const GAP: Duration = Duration::from_secs(1);
/// How long after a failure the next try is made.
const RETRY: Duration = Duration::from_secs(5);
/// How often it is seen whether one is due.
const TICK: Duration = Duration::from_millis(200);
/// How long each step may take: signing, storing, writing the file.
const STEP: Duration = Duration::from_secs(10);

pub(crate) struct Checkpointer {
    origin: String,
    policy: Checkpoints,
    signer: Arc<dyn CheckpointSigner>,
    shared: Arc<Shared>,
    /// Weak, so that the writer ends when nobody else can write.
    messages: mpsc::WeakUnboundedSender<Message>,
    clock: Clock,
    /// How many events the last checkpoint covers.
    covered: u64,
    /// When it was made, or when this began.
    last: Instant,
    not_before: Instant,
}

/// At which step a checkpoint failed, and why.
#[derive(Debug, thiserror::Error)]
#[error("{stage}: {reason}")]
struct Failure {
    stage: &'static str,
    reason: String,
}

impl Failure {
    fn at(stage: &'static str) -> impl Fn(String) -> Self {
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
            policy: settings.checkpoints.clone(),
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
            if head.size > self.covered && (closing || self.due(head)) {
                self.make(head).await;
            }
            if closing || self.messages.strong_count() == 0 {
                return;
            }
            let _ = timeout(TICK, self.shared.closes.notified()).await;
        }
    }

    fn due(&self, head: Head) -> bool {
        let since = self.last.elapsed();
        let many =
            head.size - self.covered >= self.policy.every_events && since >= GAP.min(self.policy.every);
        Instant::now() >= self.not_before && (many || since >= self.policy.every || self.shared.is_cut())
    }

    async fn make(&mut self, head: Head) {
        let checkpoint = Checkpoint {
            origin: self.origin.clone(),
            size: head.size,
            hash: head.hash,
            // The clock may have gone back since, or another host's be ahead: no checkpoint is older than what it
            // covers, or than the one before.
            time: self
                .clock
                .now()
                .max(head.recorded)
                .max(self.shared.checkpoints_until()),
        };
        match self.sign_and_keep(checkpoint.clone()).await {
            Ok(not_posted) => {
                self.covered = checkpoint.size;
                self.last = Instant::now();
                self.shared.metrics.checkpoint_age.set(0);
                self.shared.set_checkpoint(checkpoint);
                // The next checkpoint covers what this one does.
                if let Some(failure) = not_posted {
                    self.failed(&failure);
                }
            }
            Err(failure) => {
                self.failed(&failure);
                self.not_before = Instant::now() + RETRY.min(self.policy.every);
            }
        }
    }

    fn failed(&self, Failure { stage, reason }: &Failure) {
        self.shared.checkpoint_failed(stage, reason);
        tracing::error!(%stage, %reason, "no checkpoint of the audit log");
    }

    /// Signs a checkpoint and keeps it. Why the server that keeps them too did not take it, if it did not.
    async fn sign_and_keep(&self, checkpoint: Checkpoint) -> Result<Option<Failure>, Failure> {
        let note = self.signed(checkpoint).await?;
        // The store first: a checkpoint that is kept elsewhere and not there is what tampering looks like. Which is so if
        // the store lost what it had: then what is kept elsewhere shows it, also to a host that is started anew.
        if !self.shared.is_cut() {
            self.store(&note).await?;
        }
        let written = match &self.policy.file {
            Some(path) => write(path.clone(), note.clone()).await,
            None => Ok(()),
        };
        let posted = match &self.policy.post {
            Some(post) => send(post, &note).await,
            None => Ok(()),
        };
        written.map(|()| posted.err())
    }

    async fn signed(&self, checkpoint: Checkpoint) -> Result<Note, Failure> {
        let failed = Failure::at("sign");
        let body = checkpoint.body();
        let signed = timeout(STEP, self.signer.sign(body.as_bytes())).await;
        let signed = signed
            .map_err(|_| failed("the signer did not answer".into()))?
            .map_err(&failed)?;
        let signature = Signature::new(signed.signer_id, &signed.public_key, signed.signature);
        if !signature.verifies(&signed.public_key, &body) {
            return Err(failed("the signature is not the signer's".into()));
        }
        Note::new(checkpoint, vec![signature]).map_err(|error| failed(error.to_string()))
    }

    async fn store(&self, note: &Note) -> Result<(), Failure> {
        let failed = Failure::at("store");
        let gone = || failed("the writer has ended".into());
        let row = NewCheckpoint {
            checkpoint: note.checkpoint.clone(),
            note: note.to_string(),
        };
        let (reply, answer) = oneshot::channel();
        let messages = self.messages.upgrade().ok_or_else(gone)?;
        messages
            .send(Message::Checkpoint(row, reply))
            .map_err(|_| gone())?;
        drop(messages);
        match timeout(STEP, answer).await {
            Ok(Ok(stored)) => stored.map_err(failed),
            Ok(Err(_)) => Err(gone()),
            Err(_) => Err(failed("the store did not take it in time".into())),
        }
    }
}

async fn write(path: PathBuf, note: Note) -> Result<(), Failure> {
    let failed = Failure::at("file");
    let place = path.display().to_string();
    let file = path.clone();
    let written = within(&path, STEP, move || checkpoint_file::append(&file, &note)).await;
    let written = written.map_err(std::io::Error::from).and_then(|written| written);
    written.map_err(|error| failed(format!("{place}: {error}")))
}

async fn send(post: &Post, note: &Note) -> Result<(), Failure> {
    let failed = Failure::at("post");
    let request = post
        .client
        .post(post.url.clone())
        .header("content-type", "text/plain; charset=utf-8")
        .body(note.to_string())
        .timeout(post.timeout);
    // The URL may hold a secret.
    let answer = request
        .send()
        .await
        .map_err(|error| failed(error.without_url().to_string()))?;
    let status = answer.status();
    if status.is_success() {
        Ok(())
    } else {
        Err(failed(format!("answered with {status}")))
    }
}
