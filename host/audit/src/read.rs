//! Read-only access to a log.
//!
//! Stores are opened read-only and read in chunks, while hosts go on writing. Nothing reads all of a log at once.

mod reader;
mod rows;
mod sqlite;

use std::path::PathBuf;

use crate::postgres_url::PostgresUrlError;
use crate::{Entry, Head, Time};

pub use reader::Reader;
pub use rows::Selection;

/// Reading a log failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store URL is invalid. The text does not repeat it: it may contain a password.
    #[error("invalid store URL: write sqlite:PATH or postgres://user:password@host/database")]
    InvalidUrl,
    /// The Postgres URL is invalid.
    #[error(transparent)]
    Postgres(#[from] PostgresUrlError),
    /// The database changed while it was read without locks.
    #[error(
        "{0}: changed while it was read, and it is in a place where it cannot be locked: read it on the machine that writes \
         to it, or read a copy made with `postern audit backup`"
    )]
    Changed(PathBuf),
    /// The database file does not exist.
    #[error("{0}: there is no such file")]
    FileNotFound(PathBuf),
    /// The database file cannot be opened.
    #[error(
        "{0}: cannot be opened as a SQLite database: {1} (reading a log while a host writes to it takes read access to its \
         -wal and -shm files and write access to its directory; otherwise make a copy with `postern audit backup`)"
    )]
    File(PathBuf, #[source] sqlx::Error),
    /// The database has no log.
    #[error("there is no audit log in this database: it has no table audit_events")]
    NoLog,
    /// The database returned an error.
    #[error("the store cannot be read: {0}")]
    Sql(#[from] sqlx::Error),
    /// Temporary files cannot be used.
    #[error("cannot use temporary files (TMPDIR sets their directory): {0}")]
    TempFile(#[source] std::io::Error),
    /// An event cannot be parsed.
    #[error("event {0} cannot be read: run `postern audit verify`")]
    UnreadableEvent(u64),
}

/// The range of sequence numbers in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The lowest sequence number; 1 in an intact log.
    pub first: i64,
    /// The highest sequence number.
    pub last: u64,
}

/// An event as it was read from a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// The event.
    pub entry: Entry,
    /// Whether the payload has the stored hash. That alone does not prove the event.
    pub hash_matches: bool,
}

impl Reader {
    /// The head of the log as the store has it, without verification.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn head(&self) -> Result<Head, ReadError> {
        match self.last(1).await?.pop() {
            None => Ok(Head::EMPTY),
            Some(found) => head_of(&found),
        }
    }

    /// The event `seq` as a head: the predecessor of the event after it.
    ///
    /// # Errors
    /// If the store cannot be read, or has no such event.
    pub async fn head_at(&self, seq: u64) -> Result<Head, ReadError> {
        if seq == 0 {
            return Ok(Head::EMPTY);
        }
        match self.between(seq, seq).await?.pop() {
            None => Err(ReadError::UnreadableEvent(seq)),
            Some(found) => head_of(&found),
        }
    }

    /// The first event that was recorded at this time or later, or the number after the last event if there is none. Recorded
    /// times do not go back, so a binary search finds it.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn first_since(&self, time: Time) -> Result<u64, ReadError> {
        let end = self.extent().await?.map_or(0, |extent| extent.last);
        let (mut low, mut high) = (1, end + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.head_at(middle).await?.recorded < time {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}

fn head_of(found: &StoredEvent) -> Result<Head, ReadError> {
    #[derive(serde::Deserialize)]
    struct Recorded {
        recorded: Time,
    }
    let seq = found.entry.seq;
    let read: Recorded =
        serde_json::from_str(&found.entry.payload).map_err(|_| ReadError::UnreadableEvent(seq))?;
    Ok(Head {
        size: seq,
        hash: found.entry.hash,
        recorded: read.recorded,
    })
}

/// Converts a sequence number to the integer type of the databases.
fn to_db_int(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
