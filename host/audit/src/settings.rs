//! What a log is told when it is opened.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

/// Where a log is kept.
#[derive(Debug, Clone)]
pub enum Store {
    /// A file of SQLite's, of one process that writes.
    Sqlite(PathBuf),
    /// A database of Postgres's, by its URL; many hosts may write to one.
    Postgres(SecretString),
}

/// Where and how a log is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where.
    pub store: Store,
    /// The name of this host, in events that the log itself writes.
    pub host: String,
    /// Names the log: the first line of its checkpoints.
    pub origin: String,
    /// When checkpoints are made, and where they go.
    pub checkpoints: Checkpoints,
    /// The most events that wait; there is always room for one call.
    pub buffer: usize,
    /// The most events of one commit. One call's events are never parted.
    pub batch: usize,
    /// How long a call waits until its events are durable.
    pub deadline: Duration,
}

impl Settings {
    /// The settings that serve most.
    #[must_use]
    pub fn new(store: Store, host: impl Into<String>, origin: impl Into<String>) -> Self {
        Self {
            store,
            host: host.into(),
            origin: origin.into(),
            checkpoints: Checkpoints::default(),
            buffer: 65_536,
            batch: 512,
            deadline: Duration::from_secs(2),
        }
    }
}

/// When checkpoints are made, and where they go. All of them go into the store.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    /// After so many new events, but not more often than once a second.
    pub every_events: u64,
    /// After this time, if there is any new event.
    pub every: Duration,
    /// A file outside the store, on another disk or synced elsewhere.
    pub file: Option<PathBuf>,
    /// A server that keeps them too.
    pub post: Option<Post>,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self {
            every_events: 1000,
            every: Duration::from_secs(60),
            file: None,
            post: None,
        }
    }
}

/// A server that takes each checkpoint as the body of a POST (`text/plain`) and answers with 2xx.
#[derive(Debug, Clone)]
pub struct Post {
    /// With the authorities and timeouts it is to have.
    pub client: reqwest::Client,
    /// Where to.
    pub url: Url,
    /// The most time for one.
    pub timeout: Duration,
}
