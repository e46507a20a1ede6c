//! The stores: what both can do. One value writes; whatever fails, its connection is given up, and the next one reads
//! from the store how far the log goes.

pub(crate) mod files;
mod postgres;
mod sqlite;

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use crate::conflict::Known;
use crate::{
    Checkpoint, Entry, Event, Hash, Head, ManifestSignature, Note, OpenError, Receipt, Store, StoreError,
    Time,
};

use files::Traces;
use postgres::Postgres;
use sqlite::Sqlite;

/// How many checkpoints are compared with one statement.
const COMPARED: usize = 1024;

/// A checkpoint to be kept in the store.
#[derive(Debug, Clone)]
pub(crate) struct NewCheckpoint {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) note: String,
}

/// A store that is written to.
#[derive(Debug)]
pub(crate) enum Backend {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

/// Opens a store and brings its tables up to date.
pub(crate) async fn open(store: &Store) -> Result<Backend, OpenError> {
    Ok(match store {
        Store::Sqlite(path) => Backend::Sqlite(Sqlite::open(path).await?),
        Store::Postgres(url) => Backend::Postgres(Box::new(Postgres::open(url).await?)),
    })
}

/// A row of `audit_events`: its number, its hash and when it was recorded.
type HeadRow = (i64, Vec<u8>, String);
/// A row of `audit_events`: its id, its number, its hash and its payload.
type KnownRow = (Uuid, i64, Vec<u8>, String);

impl Backend {
    /// Connects if there is no connection; tells whether there was none.
    pub(crate) async fn connect(&mut self) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(store) => store.connect().await,
            Self::Postgres(store) => store.connect().await,
        }
    }

    /// Gives up the connection, and with it what was begun.
    pub(crate) async fn disconnect(&mut self) {
        match self {
            Self::Sqlite(store) => store.disconnect().await,
            Self::Postgres(store) => store.disconnect().await,
        }
    }

    /// An error if somebody changed the store's files since the last commit, or if that may be so and the last event is
    /// not there any more.
    pub(crate) async fn is_intact(&mut self, last: Head) -> Result<(), StoreError> {
        let Self::Sqlite(store) = self else {
            // Its server looks after its files.
            return Ok(());
        };
        match store.is_intact()? {
            Traces::None => Ok(()),
            Traces::Faint => {
                tracing::debug!("the audit store's files were touched: they are read anew");
                store.reconnect().await?;
                self.holds(last.size, last.hash).await
            }
        }
    }

    /// Leaves the store so that it can be copied, and gives up the connection.
    pub(crate) async fn close(&mut self) {
        if let Self::Sqlite(store) = self {
            store.settle().await;
        }
        self.disconnect().await;
    }

    /// Begins a transaction, and tells the head. If somebody else appends meanwhile, [`Self::insert`] fails with
    /// [`StoreError::Collided`].
    pub(crate) async fn begin(&mut self) -> Result<Head, StoreError> {
        let row = match self {
            Self::Sqlite(store) => store.begin().await?,
            Self::Postgres(store) => store.begin().await?,
        };
        row.map_or(Ok(Head::EMPTY), head)
    }

    /// Which of these events are in the log, where, and what they are.
    pub(crate) async fn known(&mut self, ids: &[Uuid]) -> Result<HashMap<Uuid, Known>, StoreError> {
        let rows = match self {
            Self::Sqlite(store) => store.known(ids).await?,
            Self::Postgres(store) => store.known(ids).await?,
        };
        let known = rows.into_iter().map(|(id, seq, hash, payload)| {
            let (seq, hash) = place(seq, &hash)?;
            let receipt = Receipt { seq, hash };
            Ok((id, Known { receipt, payload }))
        });
        known.collect()
    }

    /// Writes new events.
    pub(crate) async fn insert(&mut self, entries: Vec<Entry>) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.insert(entries).await,
            Self::Postgres(store) => store.insert(entries).await,
        }
    }

    /// Writes the row of a manifest's signature, unless it is there. If the event is `new`, so is the row.
    pub(crate) async fn insert_manifest(
        &mut self,
        event: &Event,
        signature: &ManifestSignature,
        new: bool,
    ) -> Result<(), StoreError> {
        let taken = match self {
            Self::Sqlite(store) => store.insert_manifest(event, signature).await?,
            Self::Postgres(store) => store.insert_manifest(event, signature).await?,
        };
        if new { all_taken(taken, 1) } else { Ok(()) }
    }

    /// Writes a checkpoint, unless there is one of that size.
    pub(crate) async fn insert_checkpoint(&mut self, size: u64, note: &str) -> Result<(), StoreError> {
        let size = number(size)?;
        let taken = match self {
            Self::Sqlite(store) => store.insert_checkpoint(size, note).await?,
            Self::Postgres(store) => store.insert_checkpoint(size, note).await?,
        };
        if taken == 1 || self.has_checkpoint(size).await? {
            return Ok(());
        }
        Err(StoreError::Dropped)
    }

    async fn has_checkpoint(&mut self, size: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(store) => store.has_checkpoint(size).await,
            Self::Postgres(store) => store.has_checkpoint(size).await,
        }
    }

    /// Gives up what was begun after another host wrote at the same time, and keeps the connection.
    pub(crate) async fn roll_back(&mut self) -> Result<(), StoreError> {
        match self {
            // Nobody else writes to it.
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(store) => store.roll_back().await,
        }
    }

    /// Makes what was written since [`Self::begin`] durable.
    pub(crate) async fn commit(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.commit().await,
            Self::Postgres(store) => store.commit().await,
        }
    }

    /// An error unless this event is in the store as it was written.
    pub(crate) async fn holds(&mut self, seq: u64, hash: Hash) -> Result<(), StoreError> {
        if seq == 0 {
            return Ok(());
        }
        match self.hashes_at(std::iter::once(seq)).await {
            Ok(found) if found.get(&seq) == Some(&hash) => Ok(()),
            Ok(_) => Err(StoreError::Cut(seq)),
            // There were tables once.
            Err(StoreError::Sql(sqlx::Error::Database(error))) if has_no_tables(&*error) => {
                Err(StoreError::Cut(seq))
            }
            Err(error) => Err(error),
        }
    }

    /// The hashes of those of these events that are there, by their numbers.
    async fn hashes_at(&mut self, seqs: impl Iterator<Item = u64>) -> Result<HashMap<u64, Hash>, StoreError> {
        let seqs: Vec<i64> = seqs.map(number).collect::<Result<_, _>>()?;
        let rows = match self {
            Self::Sqlite(store) => store.hashes_at(&seqs).await?,
            Self::Postgres(store) => store.hashes_at(&seqs).await?,
        };
        rows.iter().map(|(seq, hash)| place(*seq, hash)).collect()
    }

    /// The head, after seeing that its payload has its hash.
    pub(crate) async fn verified_head(&mut self) -> Result<Head, OpenError> {
        let row = match self {
            Self::Sqlite(store) => store.head().await?,
            Self::Postgres(store) => store.head().await?,
        };
        let Some((row, payload)) = row else {
            return Ok(Head::EMPTY);
        };
        let head = head(row)?;
        if Hash::of(payload.as_bytes()) != head.hash {
            return Err(OpenError::Changed { seq: head.size });
        }
        Ok(head)
    }

    /// The last checkpoint in the store. One that cannot be read is for the verifier to complain of.
    pub(crate) async fn last_checkpoint(&mut self) -> Result<Option<Checkpoint>, StoreError> {
        let note = match self {
            Self::Sqlite(store) => store.last_checkpoint().await?,
            Self::Postgres(store) => store.last_checkpoint().await?,
        };
        let note = note.and_then(|note| Note::parse(&note).ok());
        Ok(note.map(|note| note.checkpoint))
    }

    /// An error if the log is not the one that these checkpoints tell of: over how many events, and the last one's hash.
    pub(crate) async fn agrees(
        &mut self,
        checkpoints: &BTreeSet<(u64, Hash)>,
        head: Head,
        place: &str,
    ) -> Result<(), OpenError> {
        if let Some((size, _)) = checkpoints.last().filter(|(size, _)| *size > head.size) {
            return Err(OpenError::Cut {
                place: place.to_owned(),
                size: *size,
                found: head.size,
            });
        }
        // The one that says the most first.
        let some: Vec<_> = checkpoints.iter().rev().filter(|(size, _)| *size > 0).collect();
        for chunk in some.chunks(COMPARED) {
            let found = self.hashes_at(chunk.iter().map(|(size, _)| *size)).await?;
            for (size, expected) in chunk {
                match found.get(size) {
                    Some(hash) if hash == expected => {}
                    Some(hash) => {
                        return Err(OpenError::Replaced {
                            place: place.to_owned(),
                            size: *size,
                            expected: *expected,
                            found: *hash,
                        });
                    }
                    None => return Err(StoreError::Cut(*size).into()),
                }
            }
        }
        Ok(())
    }
}

/// Whether a query failed for want of its table: `undefined_table` of Postgres, the general error of SQLite.
fn has_no_tables(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| code == "42P01" || code == "1")
}

fn head((seq, hash, recorded): HeadRow) -> Result<Head, StoreError> {
    let (size, hash) = place(seq, &hash)?;
    let recorded = Time::parse(&recorded).ok_or(StoreError::Form(seq))?;
    Ok(Head { size, hash, recorded })
}

fn place(seq: i64, hash: &[u8]) -> Result<(u64, Hash), StoreError> {
    let hash = hash.try_into().map_err(|_| StoreError::Form(seq))?;
    let place = u64::try_from(seq).map_err(|_| StoreError::Form(seq))?;
    Ok((place, Hash(hash)))
}

/// An error unless the database took so many rows.
fn all_taken(rows: u64, of: usize) -> Result<(), StoreError> {
    if usize::try_from(rows) == Ok(of) {
        return Ok(());
    }
    Err(StoreError::Dropped)
}

/// A number as databases have it.
fn number(seq: u64) -> Result<i64, StoreError> {
    i64::try_from(seq).map_err(|_| StoreError::Form(i64::MAX))
}
