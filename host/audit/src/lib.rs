//! The audit log: a chain of hashes, its stores, its checkpoints and their verification.

mod chain;
mod event;
mod time;

pub use chain::{Entry, GENESIS, Hash, Head, Record};
pub use event::{Decision, Event, Invalid, Kind};
pub use time::Time;
