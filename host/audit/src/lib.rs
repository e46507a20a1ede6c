//! The audit log: a chain of hashes, its stores, its checkpoints and their verification.
//!
//! [`Log`] writes. What it acknowledged is durable, stands in the log once, and cannot be changed or cut off without
//! `postern audit verify` seeing it: each event holds the hash of the one before ([`Record`]), and the head of the
//! chain is signed and kept outside ([`Checkpoint`]). [`verify`] sees it, [`read`] asks a log for what is in it, and
//! [`export`] makes a file of it that is verified without its database.

mod chain;
mod checkpoint;
mod checkpoint_file;
mod checkpointer;
mod conflict;
mod copy;
mod error;
mod event;
pub mod export;
mod link;
mod log;
mod metrics;
mod postgres_url;
mod queue;
pub mod read;
mod settings;
mod store;
mod time;
pub mod verify;
mod writer;

pub use chain::{Entry, GENESIS, Hash, Head, Record};
pub use checkpoint::{Checkpoint, Note, NoteError, Notes, Signature, key_id};
pub use checkpointer::{CheckpointSigner, Signed, Signing};
pub use copy::{CopyError, copy, record_restored};
pub use error::{AppendError, OpenError, StoreError};
pub use event::{Decision, Event, Invalid, Kind};
pub use log::{Clock, Log, ManifestSignature, Receipt, State};
pub use metrics::Metrics;
pub use postgres_url::{PostgresUrlError, check_postgres_url};
pub use queue::Problem;
pub use settings::{Checkpoints, Post, Settings, Store};
pub use time::Time;
