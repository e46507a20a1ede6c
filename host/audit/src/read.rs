//! Reading a log that somebody else writes, without a right to change it.
//!
//! Stores are opened read-only and read in pieces; a host may go on writing meanwhile. Nothing reads all of a log at
//! once.

mod rows;
mod sqlite;
mod store;

use std::path::PathBuf;

use crate::postgres_url::PostgresUrlError;
use crate::{Entry, Head, Time};

pub use rows::Selection;
pub use store::Reader;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What names the store names none. It is not repeated: a password may stand in it.
    #[error("the store is named by sqlite:PATH or postgres://user:password@host/database")]
    Url,
    /// The URL of a Postgres store.
    #[error(transparent)]
    Postgres(#[from] PostgresUrlError),
    /// The database was changed while it was read.
    #[error(
        "{0}: was changed while it was read, and it lies where it cannot be locked: read it on the machine that writes to \
         it, or read a copy that `postern audit backup` made"
    )]
    Changed(PathBuf),
    /// The file of a log is not there.
    #[error("{0}: there is no such file")]
    NoFile(PathBuf),
    /// The file of a log cannot be opened.
    #[error(
        "{0}: cannot be opened as a database of SQLite's: {1} (whoever reads a log that a host writes to needs to read its \
         -wal and -shm files and to write in its folder; else make a copy with `postern audit backup`)"
    )]
    File(PathBuf, #[source] sqlx::Error),
    /// The database has no log in it.
    #[error("there is no audit log in this database: it has no table audit_events")]
    NoLog,
    /// The database says so.
    #[error("the store cannot be read: {0}")]
    Sql(#[from] sqlx::Error),
    /// Temporary files cannot be used.
    #[error("temporary files cannot be used (TMPDIR says where they go): {0}")]
    Temporary(#[source] std::io::Error),
    /// A payload cannot be read, so nothing can be said of its event.
    #[error("event {0} cannot be read: run `postern audit verify`")]
    Payload(u64),
}

/// What a log spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The lowest sequence number; 1 in a whole log.
    pub first: i64,
    /// The highest.
    pub last: u64,
}

/// An event as it was read, and whether its payload has the hash that the store says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The event.
    pub entry: Entry,
    /// Whether it is as it was written, as far as it alone shows.
    pub sound: bool,
}

impl Reader {
    /// The end of the log as the store has it: not verified.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn head(&self) -> Result<Head, ReadError> {
        match self.last(1).await?.pop() {
            None => Ok(Head::EMPTY),
            Some(found) => head_of(&found),
        }
    }

    /// The event at a place as a head: what stands before the events that follow it.
    ///
    /// # Errors
    /// If the store cannot be read, or has no such event.
    pub async fn head_at(&self, seq: u64) -> Result<Head, ReadError> {
        if seq == 0 {
            return Ok(Head::EMPTY);
        }
        match self.between(seq, seq).await?.pop() {
            None => Err(ReadError::Payload(seq)),
            Some(found) => head_of(&found),
        }
    }

    /// The first event that was recorded at this time or later; the one behind the last, if there is none. Clocks in a
    /// log do not go back, so few events are read.
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

fn head_of(found: &Found) -> Result<Head, ReadError> {
    #[derive(serde::Deserialize)]
    struct Recorded {
        recorded: Time,
    }
    let seq = found.entry.seq;
    let read: Recorded = serde_json::from_str(&found.entry.payload).map_err(|_| ReadError::Payload(seq))?;
    Ok(Head {
        size: seq,
        hash: found.entry.hash,
        recorded: read.recorded,
    })
}

/// An event's place in a store, which numbers in 63 bits.
fn place(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}
