//! The settings of a log.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use crate::{Checkpoint, Event, OpenError};

/// The database that holds a log.
#[derive(Debug, Clone)]
pub enum Store {
    /// A SQLite file, written to by one process.
    Sqlite(PathBuf),
    /// The URL of a Postgres database; many hosts may write to one.
    Postgres(SecretString),
}

/// The settings of a log.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The database.
    pub store: Store,
    /// The name of this host, in events that the log itself writes.
    pub host: String,
    /// The name of the log: the first line of its checkpoints.
    pub origin: String,
    /// When checkpoints are made, and where they are kept.
    pub checkpoints: CheckpointSettings,
    /// The limit of events that wait to be written. A call with more events than that is rejected.
    pub buffer: usize,
    /// The limit of events in one commit. The events of one call are never split.
    pub batch: usize,
    /// How long a call waits until its events are durable.
    pub deadline: Duration,
}

impl Settings {
    /// Settings with defaults for all limits.
    #[must_use]
    pub fn new(store: Store, host: impl Into<String>, origin: impl Into<String>) -> Self {
        Self {
            store,
            host: host.into(),
            origin: origin.into(),
            checkpoints: CheckpointSettings::default(),
            buffer: 65_536,
            batch: 512,
            deadline: Duration::from_secs(2),
        }
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let invalid = |what| Err(OpenError::Settings(what));
        if !Checkpoint::is_origin(&self.origin) {
            return invalid("the origin must be one line of 1 to 256 bytes, such as postern.example/audit");
        }
        if self.host.len() > Event::LONGEST || self.host.contains('\0') {
            return invalid("the name of the host must have at most 256 bytes and no U+0000");
        }
        if self.batch == 0 || self.buffer < self.batch {
            return invalid(
                "a batch must have at least one event, and the buffer must not be smaller than a batch",
            );
        }
        if self.checkpoints.every_events == 0 || self.checkpoints.every.is_zero() {
            return invalid(
                "the intervals of checkpoints must be at least one event and more than zero seconds",
            );
        }
        if self.deadline.is_zero() {
            return invalid("the deadline must be more than zero seconds");
        }
        Ok(())
    }
}

/// When checkpoints are made, and where they are kept besides the store, which keeps all of them.
#[derive(Debug, Clone)]
pub struct CheckpointSettings {
    /// After this many new events, but not more often than once a second.
    pub every_events: u64,
    /// After this time, if there is any new event.
    pub every: Duration,
    /// An external checkpoint file, on another disk or synced elsewhere.
    pub file: Option<PathBuf>,
    /// A server that keeps them too.
    pub post: Option<PostTarget>,
}

impl Default for CheckpointSettings {
    fn default() -> Self {
        Self {
            every_events: 1000,
            every: Duration::from_secs(60),
            file: None,
            post: None,
        }
    }
}

/// A server that accepts each checkpoint as the body of a POST (`text/plain`) and responds with 2xx.
#[derive(Debug, Clone)]
pub struct PostTarget {
    /// The client, configured with its certificate authorities and timeouts.
    pub client: reqwest::Client,
    /// The URL to POST to.
    pub url: Url,
    /// The limit of one request.
    pub timeout: Duration,
}
