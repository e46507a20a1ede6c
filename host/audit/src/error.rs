//! Errors of opening, writing and appending.

use std::io;
use std::path::PathBuf;

use uuid::Uuid;

use crate::{Hash, InvalidEvent, PostgresUrlError, Time};

/// Opening a log failed. Nothing was written to it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting is invalid.
    #[error("invalid audit log settings: {0}")]
    Settings(&'static str),
    /// A file cannot be used.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// The group or others may write to the file.
    #[error("{0} is writable by users other than its owner: find out who wrote to it, then run chmod 600")]
    InsecurePermissions(PathBuf),
    /// Another process writes to the same file, possibly through another path.
    #[error(
        "{0} is locked: another process writes to this audit log, through this path or another path to the same file; \
         stop that process, or configure a different store for this one"
    )]
    Locked(PathBuf),
    /// The store is unreachable or fails.
    #[error("audit store: {0}")]
    Store(#[from] StoreError),
    /// The tables cannot be created or migrated.
    #[error("cannot create or migrate the tables of the audit log: {0}")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// The payload of the last event does not have the stored hash.
    #[error(
        "event {seq} of the audit log was changed: its payload does not match its hash; keep a copy and run `postern audit verify`"
    )]
    HeadChanged {
        /// The sequence number of the event.
        seq: u64,
    },
    /// The stored checkpoints have another origin than the settings.
    #[error(
        "the checkpoints in the audit store have the origin \"{stored}\", the settings have \"{wanted}\": restore the \
         origin, or use a new database; `postern audit verify` reports a log with checkpoints of both as tampered with"
    )]
    OriginMismatch {
        /// The origin of the last checkpoint in the store.
        stored: String,
        /// The origin in the settings.
        wanted: String,
    },
    /// A checkpoint covers more events than the log has.
    #[error(
        "{place} has a checkpoint over {size} events, the audit log has {found}: its end was cut off, or it is another log; \
         keep a copy, run `postern audit verify`, and move the checkpoints aside only if the loss is known"
    )]
    Truncated {
        /// Where the checkpoint is stored.
        place: String,
        /// The number of events it covers.
        size: u64,
        /// The number of events in the log.
        found: u64,
    },
    /// A checkpoint has another hash than the event in the log.
    #[error(
        "{place} has a checkpoint with the hash {expected} for event {size}, the audit log has {found}: the log was \
         replaced; keep a copy, run `postern audit verify`, and move the checkpoints aside only if the replacement is known"
    )]
    Replaced {
        /// Where the checkpoint is stored.
        place: String,
        /// The sequence number of the event.
        size: u64,
        /// The hash in the checkpoint.
        expected: Hash,
        /// The hash in the store.
        found: Hash,
    },
}

/// An operation of a store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database returned an error.
    #[error("{0}")]
    Sql(#[from] sqlx::Error),
    /// The operation took too long; the limit in seconds.
    #[error("no response within {0} s")]
    Timeout(u64),
    /// The URL is not that of a usable store. The text does not repeat it: it may contain a password.
    #[error(transparent)]
    InvalidUrl(PostgresUrlError),
    /// The server may lose committed transactions.
    #[error("the Postgres server has `fsync = off` and can lose what it commits; set it to on")]
    FsyncOff,
    /// The database cannot store every string.
    #[error("the Postgres database has the encoding {0}; create one with UTF8")]
    Encoding(String),
    /// The file has another inode than when it was opened.
    #[error("{0} was deleted or replaced while in use; further events would be lost")]
    FileReplaced(PathBuf),
    /// Another process wrote to a file or truncated it.
    #[error("{0} was changed by another process between two commits: it was truncated or written to")]
    FileChanged(PathBuf),
    /// The store no longer holds an event as it was written.
    #[error(
        "event {0} is not in the store as it was written: the log was cut or replaced; keep a copy and run `postern audit verify`"
    )]
    Truncated(u64),
    /// The database silently dropped rows.
    #[error(
        "the store did not take every row: a rule or trigger drops them; remove it from the tables of the audit log"
    )]
    RowsDropped,
    /// Another host appended to the log at the same time.
    #[error("other hosts appended to the log at the same time")]
    WriteConflict,
    /// What was written before a failure cannot be made durable yet.
    #[error("the write-ahead log could not be checkpointed: a reader blocks it, or the disk fails")]
    WalNotCheckpointed,
    /// Another host writes checkpoints with another origin.
    #[error(
        "the last checkpoint in the store has the origin \"{stored}\", this one has \"{wanted}\": configure one origin for \
         all hosts that write to this log"
    )]
    OriginMismatch {
        /// The origin of the last checkpoint in the store.
        stored: String,
        /// The origin of this host's checkpoint.
        wanted: String,
    },
    /// Another host's clock is ahead.
    #[error(
        "the last checkpoint in the store was made at {0}, more than five minutes after this one: the clocks of the hosts \
         differ; the next checkpoint gets a time that is not earlier"
    )]
    ClockSkew(Time),
    /// A row does not have the format that this program writes.
    #[error("event {0} in the store has an unknown format; run `postern audit verify`")]
    InvalidRow(i64),
}

/// Events were not acknowledged. Unless the variant excludes it, they may be in the log all the same; appending them
/// again with the same ids is always safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The buffer is full. Nothing was written.
    #[error("too many events are waiting to be written to the audit log")]
    BufferFull,
    /// The events were not durable within the deadline.
    #[error("the audit log did not write within its deadline")]
    DeadlineExceeded,
    /// The store fails, or the log is closed.
    #[error("the audit log is unavailable: {0}")]
    Unavailable(String),
    /// An event is invalid. Nothing was written.
    #[error("event {index} of the call: {reason}")]
    Invalid {
        /// The index of the event in the call, from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        reason: InvalidEvent,
    },
    /// A different event already has the id. Nothing was written.
    #[error("event {index} of the call: a different event already has the id {id}")]
    Conflict {
        /// The index of the event in the call, from 0.
        index: usize,
        /// The id.
        id: Uuid,
    },
}

impl AppendError {
    /// The code of the error, for metric labels and responses.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::BufferFull => "audit_full",
            Self::DeadlineExceeded => "audit_late",
            Self::Unavailable(_) => "audit_unavailable",
            Self::Invalid { .. } => "audit_invalid",
            Self::Conflict { .. } => "audit_conflict",
        }
    }
}

impl From<InvalidEvent> for AppendError {
    fn from(reason: InvalidEvent) -> Self {
        Self::Invalid { index: 0, reason }
    }
}
