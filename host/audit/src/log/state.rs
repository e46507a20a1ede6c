//! The state of a log, for health checks.

use std::time::Duration;

use crate::shared::StoreFailure;
use crate::{Checkpoint, Head, Time};

/// The state of an open log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// The failure of the store; `None` while it works.
    pub store_failure: Option<StoreFailure>,
    /// The number of events that wait to be written.
    pub backlog: usize,
    /// The number of events lost since the start because the buffer was full.
    pub lost: u64,
    /// The last event.
    pub head: Head,
    /// The last checkpoint of this host.
    pub checkpoint: Option<Checkpoint>,
    /// The age of that checkpoint.
    pub checkpoint_age: Option<Duration>,
    /// The error of the last attempt to make a checkpoint; `None` if it succeeded.
    pub checkpoint_error: Option<String>,
    /// The number of checkpoints since the start that could not be signed, stored, or written to where they are kept.
    pub checkpoint_failures: u64,
    /// How often the clock went back.
    pub clock_steps: u64,
}

/// The time between two instants; zero if the clock went back.
pub(super) fn age(since: Time, now: Time) -> Duration {
    Duration::from_micros(now.micros().saturating_sub(since.micros()))
}
