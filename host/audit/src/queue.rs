//! The messages that wait for the writer.

use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use crate::shared::Permit;
use crate::store::NewCheckpoint;
use crate::{AppendError, Event, ManifestSignature, Receipt};

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

/// The caller that waits for a job.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) reply: oneshot::Sender<Result<Vec<Receipt>, AppendError>>,
    pub(crate) deadline: Instant,
}

/// Events that are written in one commit.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) items: Vec<Item>,
    /// Without a caller, the job is retried until it is written.
    pub(crate) caller: Option<Caller>,
    /// Released when the job is dropped; the writer's own events need none.
    pub(crate) permit: Option<Permit>,
}

/// A message to the writer.
#[derive(Debug)]
pub(crate) enum Message {
    Job(Job),
    Checkpoint(NewCheckpoint, oneshot::Sender<Result<(), String>>),
}

/// Bounded by [`Permit`], not by the channel.
pub(crate) type Messages = mpsc::UnboundedReceiver<Message>;
