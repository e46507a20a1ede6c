//! Verification: is this the log that was written, all of it, and nothing else?
//!
//! Nothing that a store says of an event is trusted. Its payload is hashed again, read again, and must say what its
//! place says; each must follow the one before it; ids come once and clocks do not go back. That shows whatever was
//! done within the chain. What was done to all of it (a tail cut off, a log rewritten from some event on, another one
//! put into its place) shows against what is out of reach of whoever did it: the checkpoints' signatures, the file of
//! checkpoints kept outside, and heads that an auditor wrote down ([`TrustedReferences`]).
//!
//! A log is read as [`Segment`]es, which can be verified side by side, and a [`Verifier`] puts them together. It finds
//! the first event that is wrong and what is wrong with it; behind that event nothing is verified. Its memory does not
//! grow with the number of events: ids are sorted in temporary files (24 bytes an event). It grows with what was kept
//! outside (56 bytes a checkpoint) and with the signatures of manifests (32 bytes each).
//!
//! A retired signer's checkpoints count where they stand before the event of its retirement; where the log has no such
//! event, while they say that they were made before. Whoever stole its key can write such ones still; they do not fit the
//! file that is kept outside, nor the head that was written down.

pub(crate) mod checkpoint_file;
mod ids;
mod problem;
mod proof;
mod record;
mod references;
mod report;
mod retirement;
mod run;
mod segment;
mod signed;
mod verifier;

pub use checkpoint_file::{Ending, Outside};
pub use problem::{Code, Problem, Warning};
pub use proof::{Demands, Lack, Unproven, Verdict};
pub use references::{KeptHead, NoHead, TrustedReferences};
pub use report::Report;
pub use run::{Progress, verify};
pub use segment::{Row, Segment};
pub(crate) use verifier::SKEW;
pub use verifier::{ManifestRow, StoredNote, Verifier};
