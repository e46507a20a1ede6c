//! SQLite: one process, one connection that writes. The write-ahead log is synced at each commit
//! (`synchronous = FULL`); readers do not hold it up.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqlSafeStr as _, SqlStr};
use tokio::time::timeout;
use uuid::Uuid;

use super::files::{Files, Traces};
use super::{HeadRow, KnownRow};
use crate::{Entry, Event, ManifestSignature, OpenError, StoreError};

/// How long to wait for a reader that holds a lock.
const BUSY: Duration = Duration::from_secs(5);
/// How long closing a connection may take.
const CLOSE: Duration = Duration::from_secs(2);
/// The write-ahead log is carried over into the database when it has so many pages: 32 MiB.
const CARRY_OVER: &str = "8192";
/// Rows of one statement: as many as fit of the largest, then of the next.
const ROWS: [usize; 4] = [256, 32, 4, 1];

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let tables = include_str!("../../migrations/sqlite/0001_audit.sql").into_sql_str();
    let first = Migration::new(1, "audit".into(), MigrationType::Simple, tables, false);
    Migrator::with_migrations(vec![first])
});

static INSERT: LazyLock<[(usize, SqlStr); 4]> = LazyLock::new(|| {
    statements(
        "INSERT INTO audit_events (seq, id, payload, hash) VALUES ",
        "(?, ?, ?, ?)",
        "",
    )
});

static KNOWN: LazyLock<[(usize, SqlStr); 4]> = LazyLock::new(|| {
    statements(
        "SELECT id, seq, hash, payload FROM audit_events WHERE id IN (",
        "?",
        ")",
    )
});

/// A statement for each number of rows.
fn statements(before: &str, row: &str, after: &str) -> [(usize, SqlStr); 4] {
    ROWS.map(|rows| {
        let sql: Arc<str> = format!("{before}{}{after}", vec![row; rows].join(", ")).into();
        (rows, AssertSqlSafe(sql).into_sql_str())
    })
}

/// A file of SQLite's.
#[derive(Debug)]
pub(crate) struct Sqlite {
    /// Dropped before the files: they hold a descriptor of the database that must outlive it.
    connection: Option<SqliteConnection>,
    files: Files,
}

impl Sqlite {
    pub(super) async fn open(path: &Path) -> Result<Self, OpenError> {
        let mut store = Self {
            connection: None,
            files: Files::open(path)?,
        };
        store.connect().await?;
        // Not `run`: the compiler does not see that its future can be sent to another thread.
        if let Err(error) = MIGRATIONS.run_direct(None, store.connection()?, false).await {
            store.disconnect().await;
            return Err(OpenError::Migration(error));
        }
        store.files.leave()?;
        Ok(store)
    }

    pub(super) async fn connect(&mut self) -> Result<bool, StoreError> {
        if self.connection.is_some() {
            return Ok(false);
        }
        self.open_connection().await?;
        // After a failed sync the system may hold pages as written that are not, and SQLite reads them back as
        // committed. Carrying them over writes them anew, so that what is built on them stands.
        let carried = match self.carry_over().await {
            Ok(true) => self.files.leave(),
            Ok(false) => Err(StoreError::Held),
            Err(error) => Err(error),
        };
        if carried.is_err() {
            self.disconnect().await;
        }
        carried.map(|()| true)
    }

    /// Connects anew though nothing failed, so that SQLite reads the files anew. What was written stands, so a reader may
    /// hold the write-ahead log meanwhile.
    pub(super) async fn reconnect(&mut self) -> Result<(), StoreError> {
        self.disconnect().await;
        self.open_connection().await?;
        self.files.leave()
    }

    async fn open_connection(&mut self) -> Result<(), StoreError> {
        self.files.still_there()?;
        let options = SqliteConnectOptions::new()
            .filename(self.files.path())
            .create_if_missing(false)
            .busy_timeout(BUSY)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", CARRY_OVER)
            .disable_statement_logging();
        self.connection = Some(SqliteConnection::connect_with(&options).await?);
        Ok(())
    }

    /// Carries the write-ahead log over into the database; whether all of it was.
    async fn carry_over(&mut self) -> Result<bool, StoreError> {
        let (busy, pages, carried): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(FULL)")
            .fetch_one(self.connection()?)
            .await?;
        Ok(busy == 0 && pages == carried)
    }

    pub(super) async fn disconnect(&mut self) {
        self.files.forget_wal();
        if let Some(connection) = self.connection.take()
            && let Ok(Err(error)) = timeout(CLOSE, connection.close()).await
        {
            tracing::debug!(%error, "the audit store's connection did not close in order");
        }
    }

    pub(super) async fn begin(&mut self) -> Result<Option<HeadRow>, StoreError> {
        let connection = self.connection()?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        let head = sqlx::query_as("SELECT seq, hash, recorded FROM audit_events ORDER BY seq DESC LIMIT 1");
        Ok(head.fetch_optional(connection).await?)
    }

    pub(super) async fn known(&mut self, ids: &[Uuid]) -> Result<Vec<KnownRow>, StoreError> {
        let connection = self.connection()?;
        let [(most, _), ..] = &*KNOWN;
        let mut known = Vec::new();
        for ids in ids.chunks(*most) {
            // The smallest statement that takes them; the places left over ask for the last one again.
            let fitting = KNOWN.iter().rev().find(|(rows, _)| *rows >= ids.len());
            let (Some((rows, sql)), Some(last)) = (fitting, ids.last()) else {
                continue;
            };
            let mut query = sqlx::query_as(sql.clone());
            for id in ids.iter().chain(std::iter::repeat(last)).take(*rows) {
                query = query.bind(*id);
            }
            known.extend(query.fetch_all(&mut *connection).await?);
        }
        Ok(known)
    }

    pub(super) async fn insert(&mut self, entries: Vec<Entry>) -> Result<(), StoreError> {
        let connection = self.connection()?;
        let (count, mut taken) = (entries.len(), 0);
        let mut entries = entries.into_iter();
        for (rows, sql) in &*INSERT {
            while entries.len() >= *rows {
                let mut query = sqlx::query(sql.clone());
                for entry in entries.by_ref().take(*rows) {
                    query = query
                        .bind(super::number(entry.seq)?)
                        .bind(entry.id)
                        .bind(entry.payload)
                        .bind(entry.hash.0.to_vec());
                }
                taken += query.execute(&mut *connection).await?.rows_affected();
            }
        }
        super::all_taken(taken, count)
    }

    pub(super) async fn insert_manifest(
        &mut self,
        event: &Event,
        signature: &ManifestSignature,
    ) -> Result<u64, StoreError> {
        let insert = "INSERT INTO manifest_signatures \
             (id, manifest_hash, signature, signer_id, signed_at, subject, request_id) \
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING";
        let done = sqlx::query(insert)
            .bind(event.id)
            .bind(signature.manifest_hash.0.to_vec())
            .bind(signature.signature.to_vec())
            .bind(signature.signer_id.clone())
            .bind(signature.signed_at.to_string())
            .bind(event.subject.clone())
            .bind(event.request_id.clone())
            .execute(self.connection()?)
            .await?;
        Ok(done.rows_affected())
    }

    pub(super) async fn insert_checkpoint(&mut self, size: i64, note: &str) -> Result<u64, StoreError> {
        let insert = "INSERT INTO audit_checkpoints (size, note) VALUES (?, ?) ON CONFLICT (size) DO NOTHING";
        let done = sqlx::query(insert)
            .bind(size)
            .bind(note.to_owned())
            .execute(self.connection()?)
            .await?;
        Ok(done.rows_affected())
    }

    pub(super) async fn has_checkpoint(&mut self, size: i64) -> Result<bool, StoreError> {
        let there = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM audit_checkpoints WHERE size = ?)");
        Ok(there.bind(size).fetch_one(self.connection()?).await?)
    }

    pub(super) async fn commit(&mut self) -> Result<(), StoreError> {
        sqlx::query("COMMIT").execute(self.connection()?).await?;
        self.files.leave()
    }

    /// An error if the files were changed since the last commit.
    pub(super) fn is_intact(&mut self) -> Result<Traces, StoreError> {
        match self.connection {
            Some(_) => self.files.untouched(),
            None => self.files.still_there().map(|()| Traces::None),
        }
    }

    /// Leaves one file that needs no other: the write-ahead log is carried over, and the header says that there is none.
    /// So a copy that was made while this process wrote, and without the write-ahead log, can be told from a whole one.
    pub(super) async fn settle(&mut self) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        // A reader that has the file open keeps it as it is; the write-ahead log stays beside it then.
        let settle = async {
            sqlx::query("PRAGMA busy_timeout = 100")
                .execute(&mut *connection)
                .await?;
            sqlx::query("PRAGMA journal_mode = DELETE")
                .execute(&mut *connection)
                .await
        };
        if let Ok(Err(error)) = timeout(CLOSE, settle).await {
            tracing::debug!(%error, "the audit store keeps its write-ahead log: someone reads it");
        }
    }

    pub(super) async fn hashes_at(&mut self, seqs: &[i64]) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let list = serde_json::Value::from(seqs).to_string();
        let hashes = sqlx::query_as(
            "SELECT seq, hash FROM audit_events WHERE seq IN (SELECT value FROM json_each(?))",
        );
        Ok(hashes.bind(list).fetch_all(self.connection()?).await?)
    }

    pub(super) async fn head(&mut self) -> Result<Option<(HeadRow, String)>, StoreError> {
        let head =
            sqlx::query_as("SELECT seq, hash, recorded, payload FROM audit_events ORDER BY seq DESC LIMIT 1");
        let row: Option<(i64, Vec<u8>, String, String)> = head.fetch_optional(self.connection()?).await?;
        Ok(row.map(|(seq, hash, recorded, payload)| ((seq, hash, recorded), payload)))
    }

    pub(super) async fn last_checkpoint(&mut self) -> Result<Option<String>, StoreError> {
        let note = sqlx::query_scalar("SELECT note FROM audit_checkpoints ORDER BY size DESC LIMIT 1");
        Ok(note.fetch_optional(self.connection()?).await?)
    }

    fn connection(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        let none = || StoreError::Sql(sqlx::Error::WorkerCrashed);
        self.connection.as_mut().ok_or_else(none)
    }
}
