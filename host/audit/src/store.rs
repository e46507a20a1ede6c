//! The stores that a log is written to. After any failure the writer drops the connection, and reads the head from the
//! store over the next one.

pub(crate) mod files;
mod postgres;
mod sqlite;

use std::collections::{BTreeSet, HashMap};

use uuid::Uuid;

use crate::receipt::ExistingEvent;
use crate::{
    Checkpoint, Entry, Event, Hash, Head, ManifestSignature, Note, OpenError, Receipt, Store, StoreError,
    Time,
};

use files::FileChange;
use postgres::Postgres;
use sqlite::Sqlite;

/// The number of checkpoints that are compared with one statement.
const COMPARED: usize = 1024;

/// A checkpoint to insert.
#[derive(Debug, Clone)]
pub(crate) struct NewCheckpoint {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) note: String,
}

/// A store that is opened for writing.
#[derive(Debug)]
pub(crate) enum Backend {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

/// Opens a store and migrates its tables.
pub(crate) async fn open(store: &Store) -> Result<Backend, OpenError> {
    Ok(match store {
        Store::Sqlite(path) => Backend::Sqlite(Sqlite::open(path).await?),
        Store::Postgres(url) => Backend::Postgres(Box::new(Postgres::open(url).await?)),
    })
}

/// `seq`, `hash` and `recorded` of `audit_events`.
type HeadRow = (i64, Vec<u8>, String);
/// `id`, `seq`, `hash` and `payload` of `audit_events`.
type EventRow = (Uuid, i64, Vec<u8>, String);

impl Backend {
    /// Connects if there is no connection. Returns whether the connection is new.
    pub(crate) async fn connect(&mut self) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(store) => store.connect().await,
            Self::Postgres(store) => store.connect().await,
        }
    }

    /// Closes the connection, and with it any open transaction.
    pub(crate) async fn disconnect(&mut self) {
        match self {
            Self::Sqlite(store) => store.disconnect().await,
            Self::Postgres(store) => store.disconnect().await,
        }
    }

    /// Fails if another process changed the store's files since the last commit, or if it may have done so and the last
    /// event is gone.
    pub(crate) async fn check_intact(&mut self, last: Head) -> Result<(), StoreError> {
        let Self::Sqlite(store) = self else {
            // The Postgres server owns its files.
            return Ok(());
        };
        match store.check_files()? {
            FileChange::None => Ok(()),
            FileChange::Metadata => {
                tracing::debug!("metadata of the audit store's files changed: reconnecting");
                store.reconnect().await?;
                self.check_event(last.size, last.hash).await
            }
        }
    }

    /// Leaves the store in a state that can be copied, and closes the connection.
    pub(crate) async fn close(&mut self) {
        if let Self::Sqlite(store) = self {
            store.leave_wal_mode().await;
        }
        self.disconnect().await;
    }

    /// Begins a transaction and returns the head. If another host appends meanwhile, [`Self::insert`] fails with
    /// [`StoreError::WriteConflict`].
    pub(crate) async fn begin(&mut self) -> Result<Head, StoreError> {
        let row = match self {
            Self::Sqlite(store) => store.begin().await?,
            Self::Postgres(store) => store.begin().await?,
        };
        row.map_or(Ok(Head::EMPTY), parse_head)
    }

    /// Returns those events of these ids that are in the log.
    pub(crate) async fn existing(
        &mut self,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, ExistingEvent>, StoreError> {
        let rows = match self {
            Self::Sqlite(store) => store.existing(ids).await?,
            Self::Postgres(store) => store.existing(ids).await?,
        };
        let existing = rows.into_iter().map(|(id, seq, hash, payload)| {
            let (seq, hash) = parse_position(seq, &hash)?;
            let receipt = Receipt { seq, hash };
            Ok((id, ExistingEvent { receipt, payload }))
        });
        existing.collect()
    }

    pub(crate) async fn insert(&mut self, entries: Vec<Entry>) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(store) => store.insert(entries).await,
            Self::Postgres(store) => store.insert(entries).await,
        }
    }

    /// Inserts a manifest signature, unless the row exists. If the event is `new`, the row must be new too.
    pub(crate) async fn insert_manifest(
        &mut self,
        event: &Event,
        signature: &ManifestSignature,
        new: bool,
    ) -> Result<(), StoreError> {
        let inserted = match self {
            Self::Sqlite(store) => store.insert_manifest(event, signature).await?,
            Self::Postgres(store) => store.insert_manifest(event, signature).await?,
        };
        if new { check_inserted(inserted, 1) } else { Ok(()) }
    }

    /// Inserts a checkpoint, unless there is one of that size.
    pub(crate) async fn insert_checkpoint(&mut self, size: u64, note: &str) -> Result<(), StoreError> {
        let size = to_db_int(size)?;
        let inserted = match self {
            Self::Sqlite(store) => store.insert_checkpoint(size, note).await?,
            Self::Postgres(store) => store.insert_checkpoint(size, note).await?,
        };
        if inserted == 1 || self.has_checkpoint(size).await? {
            return Ok(());
        }
        Err(StoreError::RowsDropped)
    }

    async fn has_checkpoint(&mut self, size: i64) -> Result<bool, StoreError> {
        match self {
            Self::Sqlite(store) => store.has_checkpoint(size).await,
            Self::Postgres(store) => store.has_checkpoint(size).await,
        }
    }

    /// Rolls back after a write conflict, and keeps the connection.
    pub(crate) async fn roll_back(&mut self) -> Result<(), StoreError> {
        match self {
            // It has no other writer.
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

    /// Fails unless the store holds this event as it was written.
    pub(crate) async fn check_event(&mut self, seq: u64, hash: Hash) -> Result<(), StoreError> {
        if seq == 0 {
            return Ok(());
        }
        match self.hashes_at(std::iter::once(seq)).await {
            Ok(found) if found.get(&seq) == Some(&hash) => Ok(()),
            Ok(_) => Err(StoreError::Truncated(seq)),
            // The tables existed when the log was opened.
            Err(StoreError::Sql(sqlx::Error::Database(error))) if is_missing_table(&*error) => {
                Err(StoreError::Truncated(seq))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the hashes of those of these events that exist, by sequence number.
    async fn hashes_at(&mut self, seqs: impl Iterator<Item = u64>) -> Result<HashMap<u64, Hash>, StoreError> {
        let seqs: Vec<i64> = seqs.map(to_db_int).collect::<Result<_, _>>()?;
        let rows = match self {
            Self::Sqlite(store) => store.hashes_at(&seqs).await?,
            Self::Postgres(store) => store.hashes_at(&seqs).await?,
        };
        rows.iter()
            .map(|(seq, hash)| parse_position(*seq, hash))
            .collect()
    }

    /// Returns the head after verifying that the payload of the last event has its hash.
    pub(crate) async fn verified_head(&mut self) -> Result<Head, OpenError> {
        let row = match self {
            Self::Sqlite(store) => store.head().await?,
            Self::Postgres(store) => store.head().await?,
        };
        let Some((row, payload)) = row else {
            return Ok(Head::EMPTY);
        };
        let head = parse_head(row)?;
        if Hash::of(payload.as_bytes()) != head.hash {
            return Err(OpenError::HeadChanged { seq: head.size });
        }
        Ok(head)
    }

    /// Returns the last checkpoint in the store. One that cannot be parsed is skipped; the verifier reports it.
    pub(crate) async fn last_checkpoint(&mut self) -> Result<Option<Checkpoint>, StoreError> {
        let note = match self {
            Self::Sqlite(store) => store.last_checkpoint().await?,
            Self::Postgres(store) => store.last_checkpoint().await?,
        };
        let note = note.and_then(|note| Note::parse(&note).ok());
        Ok(note.map(|note| note.checkpoint))
    }

    /// Fails unless the log has all events that these checkpoints cover. A checkpoint is its size and its hash.
    pub(crate) async fn check_covered(
        &mut self,
        checkpoints: &BTreeSet<(u64, Hash)>,
        head: Head,
        place: &str,
    ) -> Result<(), OpenError> {
        if let Some((size, _)) = checkpoints.last().filter(|(size, _)| *size > head.size) {
            return Err(OpenError::Truncated {
                place: place.to_owned(),
                size: *size,
                found: head.size,
            });
        }
        // The largest first.
        let non_empty: Vec<_> = checkpoints.iter().rev().filter(|(size, _)| *size > 0).collect();
        for chunk in non_empty.chunks(COMPARED) {
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
                    None => return Err(StoreError::Truncated(*size).into()),
                }
            }
        }
        Ok(())
    }
}

/// Whether a query failed because its table is missing: `undefined_table` of Postgres, the generic error of SQLite.
fn is_missing_table(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().is_some_and(|code| code == "42P01" || code == "1")
}

fn parse_head((seq, hash, recorded): HeadRow) -> Result<Head, StoreError> {
    let (size, hash) = parse_position(seq, &hash)?;
    let recorded = Time::parse(&recorded).ok_or(StoreError::InvalidRow(seq))?;
    Ok(Head { size, hash, recorded })
}

fn parse_position(seq: i64, hash: &[u8]) -> Result<(u64, Hash), StoreError> {
    let hash = hash.try_into().map_err(|_| StoreError::InvalidRow(seq))?;
    let number = u64::try_from(seq).map_err(|_| StoreError::InvalidRow(seq))?;
    Ok((number, Hash(hash)))
}

/// Fails unless the database inserted all rows.
fn check_inserted(rows: u64, expected: usize) -> Result<(), StoreError> {
    if usize::try_from(rows) == Ok(expected) {
        return Ok(());
    }
    Err(StoreError::RowsDropped)
}

/// Converts to the integer type of the databases.
fn to_db_int(seq: u64) -> Result<i64, StoreError> {
    i64::try_from(seq).map_err(|_| StoreError::InvalidRow(i64::MAX))
}
