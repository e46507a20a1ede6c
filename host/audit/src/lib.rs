//! The audit log: a hash chain, its stores, its checkpoints and their verification.
//!
//! [`Log`] appends. What it acknowledges is durable, is in the log once, and cannot be changed or cut off without
//! `postern audit verify` detecting it: each event holds the hash of the one before ([`Record`]), and the head of the
//! chain is signed and kept outside the store ([`Checkpoint`]). [`verify`] verifies a log, [`read`] queries it, and
//! [`export`] writes it to a file that is verified without the database.

mod chain;
mod checkpoint;
mod checkpoint_file;
mod checkpoint_signer;
mod checkpointer;
mod clock;
mod conflict;
mod copy;
mod error;
mod event;
pub mod export;
mod link;
mod log;
mod manifest_signature;
mod metrics;
mod postgres_url;
mod queue;
pub mod read;
mod receipt;
mod settings;
mod shared;
mod store;
mod time;
pub mod verify;
mod writer;

pub use chain::{Entry, GENESIS, Hash, Head, Record};
pub use checkpoint::{Checkpoint, Note, NoteError, Notes, Signature, key_id};
pub use checkpoint_signer::{CheckpointSignature, CheckpointSigner, SignFuture};
pub use clock::Clock;
pub use copy::{CopyError, copy, record_restored};
pub use error::{AppendError, OpenError, StoreError};
pub use event::{Decision, Event, InvalidEvent, Kind};
pub use log::{Log, State};
pub use manifest_signature::ManifestSignature;
pub use metrics::Metrics;
pub use postgres_url::{PostgresUrlError, check_postgres_url};
pub use receipt::Receipt;
pub use settings::{CheckpointSettings, PostTarget, Settings, Store};
pub use shared::StoreFailure;
pub use time::Time;
