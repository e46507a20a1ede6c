//! The SQLite store: one process writes over one connection. The write-ahead log is synced at each commit
//! (`synchronous = FULL`); readers do not delay it.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, SqlSafeStr as _, SqlStr};
use tokio::time::timeout;
use uuid::Uuid;

use super::files::{FileChange, Files};
use super::{EventRow, HeadRow};
use crate::{Entry, Event, ManifestSignature, OpenError, StoreError};

/// Limit of waiting for a reader that holds a lock.
const BUSY_LIMIT: Duration = Duration::from_secs(5);
/// Limit of closing a connection.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// The size of the write-ahead log at which SQLite checkpoints it into the database, in pages: 32 MiB.
const AUTOCHECKPOINT_PAGES: &str = "8192";
/// The numbers of rows of the prepared statements. Rows are split over the largest that they fill.
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

static SELECT_EXISTING: LazyLock<[(usize, SqlStr); 4]> = LazyLock::new(|| {
    statements(
        "SELECT id, seq, hash, payload FROM audit_events WHERE id IN (",
        "?",
        ")",
    )
});

/// Returns a statement for each of [`ROWS`].
fn statements(before: &str, row: &str, after: &str) -> [(usize, SqlStr); 4] {
    ROWS.map(|rows| {
        let sql: Arc<str> = format!("{before}{}{after}", vec![row; rows].join(", ")).into();
        (rows, AssertSqlSafe(sql).into_sql_str())
    })
}

/// A SQLite file that is opened for writing.
#[derive(Debug)]
pub(crate) struct Sqlite {
    /// Declared before `files`, so that it is dropped first: `files` holds a descriptor of the database that must outlive
    /// the connection.
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
        // Not `run`: the compiler cannot prove that its future is `Send`.
        if let Err(error) = MIGRATIONS.run_direct(None, store.connection()?, false).await {
            store.disconnect().await;
            return Err(OpenError::Migration(error));
        }
        store.files.record_stamps()?;
        Ok(store)
    }

    pub(super) async fn connect(&mut self) -> Result<bool, StoreError> {
        if self.connection.is_some() {
            return Ok(false);
        }
        self.open_connection().await?;
        // After a failed sync, the page cache may hold pages as clean that were never written, and SQLite reads them back
        // as committed. A WAL checkpoint writes them again, so that later events build on durable ones.
        let checkpointed = match self.checkpoint_wal().await {
            Ok(true) => self.files.record_stamps(),
            Ok(false) => Err(StoreError::WalNotCheckpointed),
            Err(error) => Err(error),
        };
        if checkpointed.is_err() {
            self.disconnect().await;
        }
        checkpointed.map(|()| true)
    }

    /// Reconnects without a failure, so that SQLite reads the files again. What was written is durable, so no WAL checkpoint
    /// is needed, which a reader could block.
    pub(super) async fn reconnect(&mut self) -> Result<(), StoreError> {
        self.disconnect().await;
        self.open_connection().await?;
        self.files.record_stamps()
    }

    async fn open_connection(&mut self) -> Result<(), StoreError> {
        self.files.check_identity()?;
        let options = SqliteConnectOptions::new()
            .filename(self.files.path())
            .create_if_missing(false)
            .busy_timeout(BUSY_LIMIT)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", AUTOCHECKPOINT_PAGES)
            .disable_statement_logging();
        self.connection = Some(SqliteConnection::connect_with(&options).await?);
        Ok(())
    }

    /// Checkpoints the write-ahead log into the database. Returns whether all of it was.
    async fn checkpoint_wal(&mut self) -> Result<bool, StoreError> {
        let (busy, pages, checkpointed): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(FULL)")
            .fetch_one(self.connection()?)
            .await?;
        Ok(busy == 0 && pages == checkpointed)
    }

    pub(super) async fn disconnect(&mut self) {
        self.files.forget_wal();
        if let Some(connection) = self.connection.take()
            && let Ok(Err(error)) = timeout(CLOSE_LIMIT, connection.close()).await
        {
            tracing::debug!(%error, "the connection to the audit store did not close cleanly");
        }
    }

    pub(super) async fn begin(&mut self) -> Result<Option<HeadRow>, StoreError> {
        let connection = self.connection()?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        let head = sqlx::query_as("SELECT seq, hash, recorded FROM audit_events ORDER BY seq DESC LIMIT 1");
        Ok(head.fetch_optional(connection).await?)
    }

    pub(super) async fn existing(&mut self, ids: &[Uuid]) -> Result<Vec<EventRow>, StoreError> {
        let connection = self.connection()?;
        let [(most, _), ..] = &*SELECT_EXISTING;
        let mut existing = Vec::new();
        for ids in ids.chunks(*most) {
            // The smallest statement that fits; its spare parameters repeat the last id.
            let fitting = SELECT_EXISTING.iter().rev().find(|(rows, _)| *rows >= ids.len());
            let (Some((rows, sql)), Some(last)) = (fitting, ids.last()) else {
                continue;
            };
            let mut query = sqlx::query_as(sql.clone());
            for id in ids.iter().chain(std::iter::repeat(last)).take(*rows) {
                query = query.bind(*id);
            }
            existing.extend(query.fetch_all(&mut *connection).await?);
        }
        Ok(existing)
    }

    pub(super) async fn insert(&mut self, entries: Vec<Entry>) -> Result<(), StoreError> {
        let connection = self.connection()?;
        let (count, mut inserted) = (entries.len(), 0);
        let mut entries = entries.into_iter();
        for (rows, sql) in &*INSERT {
            while entries.len() >= *rows {
                let mut query = sqlx::query(sql.clone());
                for entry in entries.by_ref().take(*rows) {
                    query = query
                        .bind(super::to_db_int(entry.seq)?)
                        .bind(entry.id)
                        .bind(entry.payload)
                        .bind(entry.hash.0.to_vec());
                }
                inserted += query.execute(&mut *connection).await?.rows_affected();
            }
        }
        super::check_inserted(inserted, count)
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
        let exists = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM audit_checkpoints WHERE size = ?)");
        Ok(exists.bind(size).fetch_one(self.connection()?).await?)
    }

    pub(super) async fn commit(&mut self) -> Result<(), StoreError> {
        sqlx::query("COMMIT").execute(self.connection()?).await?;
        self.files.record_stamps()
    }

    /// Fails if another process changed the files since the last commit.
    pub(super) fn check_files(&mut self) -> Result<FileChange, StoreError> {
        match self.connection {
            Some(_) => self.files.check_stamps(),
            None => self.files.check_identity().map(|()| FileChange::None),
        }
    }

    /// Leaves a single self-contained file: checkpoints the write-ahead log, and switches the header to another journal
    /// mode. So a copy that was made during use, without the write-ahead log, can be told from a complete one.
    pub(super) async fn leave_wal_mode(&mut self) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        // A reader that has the file open prevents this; then the write-ahead log stays.
        let leave = async {
            sqlx::query("PRAGMA busy_timeout = 100")
                .execute(&mut *connection)
                .await?;
            sqlx::query("PRAGMA journal_mode = DELETE")
                .execute(&mut *connection)
                .await
        };
        if let Ok(Err(error)) = timeout(CLOSE_LIMIT, leave).await {
            tracing::debug!(%error, "the audit store keeps its write-ahead log: a reader has it open");
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
        let disconnected = || StoreError::Sql(sqlx::Error::WorkerCrashed);
        self.connection.as_mut().ok_or_else(disconnected)
    }
}
