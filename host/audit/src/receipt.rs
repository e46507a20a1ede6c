//! The position of an event in the log.

use crate::Hash;

/// Acknowledges an event: its position in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The sequence number, from 1.
    pub seq: u64,
    /// The hash of the event's payload.
    pub hash: Hash,
}

/// An event that the log already holds.
#[derive(Debug, Clone)]
pub(crate) struct ExistingEvent {
    pub(crate) receipt: Receipt,
    pub(crate) payload: String,
}
