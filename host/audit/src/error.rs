//! What can go wrong, told to who can do something about it.

use std::io;
use std::path::PathBuf;

use uuid::Uuid;

use crate::{Hash, Invalid, PostgresUrlError, Time};

/// Why a log is not opened. Nothing was written to it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting that cannot be.
    #[error("the settings of the audit log: {0}")]
    Settings(&'static str),
    /// A file cannot be used.
    #[error("{0}: {1}")]
    File(PathBuf, #[source] io::Error),
    /// Others than its owner may write to the file.
    #[error("{0} can be written by others than its owner: chmod 600 it, after finding out who wrote to it")]
    Exposed(PathBuf),
    /// Another process writes to the same file, maybe by another name of it.
    #[error(
        "{0} is locked: another process writes to this audit log, by this path or by another one to the same file; stop it \
         first, or give this one its own"
    )]
    Taken(PathBuf),
    /// The store cannot be reached or does not work.
    #[error("the store of the audit log: {0}")]
    Store(#[from] StoreError),
    /// The tables cannot be brought up to date.
    #[error("the tables of the audit log cannot be made or brought up to date: {0}")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// The last event is not what its hash says.
    #[error(
        "event {seq} of the audit log was changed: its payload does not have its hash; keep a copy and run `postern audit verify`"
    )]
    Changed {
        /// Its number.
        seq: u64,
    },
    /// The log's checkpoints are of another origin than the settings say.
    #[error(
        "the audit log's checkpoints are of \"{stored}\", the settings say origin \"{wanted}\": put it back, or begin a new \
         database; with checkpoints of both, `postern audit verify` would call the log tampered with"
    )]
    Origin {
        /// That of the last checkpoint in the store.
        stored: String,
        /// That of the settings.
        wanted: String,
    },
    /// A checkpoint names more events than there are.
    #[error(
        "{place} has a checkpoint of {size} events, the audit log has {found}: its end was cut off, or it is another log; \
         keep a copy, run `postern audit verify`, and move the checkpoints aside only if the loss is known"
    )]
    Cut {
        /// Where the checkpoint stands.
        place: String,
        /// How many it names.
        size: u64,
        /// How many there are.
        found: u64,
    },
    /// A checkpoint names another hash than the event has.
    #[error(
        "{place} has a checkpoint that gives event {size} the hash {expected}, the audit log has {found}: it was replaced; \
         keep a copy, run `postern audit verify`, and move the checkpoints aside only if the replacement is known"
    )]
    Replaced {
        /// Where the checkpoint stands.
        place: String,
        /// The event's number.
        size: u64,
        /// The hash in the checkpoint.
        expected: Hash,
        /// The hash in the store.
        found: Hash,
    },
}

/// Why a store does not do what it is asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database says so.
    #[error("{0}")]
    Sql(#[from] sqlx::Error),
    /// It does not answer.
    #[error("no answer within {0} s")]
    Slow(u64),
    /// The URL names no store that may be used. It is not repeated: a password may stand in it.
    #[error(transparent)]
    Url(PostgresUrlError),
    /// The server does not keep what it says it keeps.
    #[error("the Postgres server has `fsync = off`: what it commits can be lost; set it to on")]
    Volatile,
    /// The database cannot hold every text.
    #[error("the Postgres database has the encoding {0}; make one with UTF8")]
    Encoding(String),
    /// The file went away under this process.
    #[error("{0} was deleted or replaced while it was written to; what follows would be lost")]
    Gone(PathBuf),
    /// Somebody else wrote to a file, or cut it.
    #[error("{0} was changed by another process between two commits: it was cut short or written to")]
    Touched(PathBuf),
    /// The store no longer holds what was written to it.
    #[error(
        "event {0} is not in the store as it was written: the log was cut or replaced; keep a copy and run `postern audit verify`"
    )]
    Cut(u64),
    /// The database does not keep what it takes.
    #[error(
        "the store did not take every row: a rule or trigger drops them; remove it from the tables of the audit log"
    )]
    Dropped,
    /// Other hosts wrote at the same time, again and again.
    #[error("other hosts wrote to the log at the same time")]
    Collided,
    /// What was written before an error cannot be made durable yet.
    #[error("the write-ahead log could not be carried over: a reader holds it, or the disk fails")]
    Held,
    /// Another host gives its checkpoints another origin.
    #[error(
        "the last checkpoint in the store is of \"{stored}\", this one of \"{wanted}\": give all hosts that write to this log \
         one origin"
    )]
    Origin {
        /// That of the last checkpoint in the store.
        stored: String,
        /// That of this host's.
        wanted: String,
    },
    /// Another host's clock is ahead.
    #[error(
        "the last checkpoint in the store was made at {0}, more than five minutes after this one: the clocks of hosts differ; \
         the next one is given a time that is not before it"
    )]
    Clocks(Time),
    /// The store holds something that this program does not write.
    #[error("event {0} in the store has not the form that this program writes; run `postern audit verify`")]
    Form(i64),
}

/// Why events were not acknowledged. They may be in the log all the same, unless the error says otherwise: telling
/// them again, with the same ids, is always right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Too many wait already. Nothing was written.
    #[error("too many events wait for the audit log")]
    Full,
    /// Not durable within the deadline.
    #[error("the audit log did not write within its deadline")]
    Late,
    /// The store does not work, or the log is closed.
    #[error("the audit log is unavailable: {0}")]
    Unavailable(String),
    /// An event that no log takes. Nothing was written.
    #[error("event {at} of the call: {reason}")]
    Invalid {
        /// Its place in the call, from 0.
        at: usize,
        /// What is wrong with it.
        #[source]
        reason: Invalid,
    },
    /// An id that another event has already. Nothing was written.
    #[error("event {at} of the call: another event has the id {id} already")]
    Conflict {
        /// Its place in the call, from 0.
        at: usize,
        /// The id.
        id: Uuid,
    },
}

impl AppendError {
    /// A short name, for labels and answers.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Full => "audit_full",
            Self::Late => "audit_late",
            Self::Unavailable(_) => "audit_unavailable",
            Self::Invalid { .. } => "audit_invalid",
            Self::Conflict { .. } => "audit_conflict",
        }
    }
}

impl From<Invalid> for AppendError {
    fn from(reason: Invalid) -> Self {
        Self::Invalid { at: 0, reason }
    }
}
