//! Verification: is this the log that was written, all of it, and nothing else?
//!
//! Nothing that a store says about an event is trusted. The verifier hashes and parses each payload again, and compares it
//! with its row. Each event must follow the one before it, ids must be unique, and times must not go back. That detects any
//! change within the chain. A change of the chain as a whole (a tail that was cut off, a log that was rewritten from some
//! event on, or replaced) shows only against what its author cannot reach: the signatures of checkpoints, the external
//! checkpoint file, and heads that an auditor wrote down ([`TrustedReferences`]).
//!
//! A log is read as [`Segment`]s, which can be verified in parallel, and a [`Verifier`] combines them. It finds the first
//! invalid event and what is wrong with it; nothing behind that event is verified. Its memory does not grow with the number
//! of events: ids are sorted in temporary files (24 bytes per event). It grows with the external checkpoints (56 bytes
//! each) and with the manifest signatures (32 bytes each).
//!
//! Checkpoints of a retired signer are accepted where they precede the event of its retirement, or, if the log has no such
//! event, where their timestamps precede it. A stolen key of that signer can still produce such checkpoints, but they do not
//! match the external file, nor a head that was written down.

pub(crate) mod checkpoint_file;
mod checkpoints;
mod coverage;
mod ids;
mod manifests;
mod problem;
mod record;
mod references;
mod report;
mod retirement;
mod rows;
mod run;
mod segment;
mod signatures;
mod verdict;
mod verifier;

pub use checkpoint_file::{CheckpointFileReport, Ending};
pub use problem::{Code, Problem, Warning};
pub use references::{ParseHeadError, TrustedHead, TrustedReferences};
pub use report::Report;
pub use rows::{ManifestRow, StoredNote};
pub use run::{Progress, verify};
pub use segment::{Row, Segment};
pub use verdict::{Requirements, Unproven, UnprovenCode, Verdict};
pub use verifier::Verifier;

/// The limit of each list in a report.
const MAX_LISTED: usize = 100;
/// The largest difference between the clocks of hosts that write to one log, in microseconds: five minutes. A checkpoint
/// may seem older than the one before it by this much.
pub(crate) const SKEW: u64 = 300_000_000;
