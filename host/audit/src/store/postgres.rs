//! The Postgres store: many hosts append to one chain. The primary key keeps it one chain: of two hosts that append to the
//! same head, one fails, and retries behind the other's events. An advisory lock makes this rare: it lets one transaction
//! at a time read the head and append to it. The lock is released with the transaction, even if the host disappears. Any
//! role that can log in can take the lock and keep it, so hosts wait for it only briefly.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, SqlSafeStr as _};
use tokio::time::timeout;
use uuid::Uuid;

use super::{EventRow, HeadRow};
use crate::{Entry, Event, ManifestSignature, OpenError, StoreError, postgres_url};

/// Limit of closing a connection.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// The key of the advisory lock: `postern` and 1.
const LOCK: i64 = 0x706f_7374_6572_6e01;
/// Waits briefly for the lock, then restores the `lock_timeout` of `SESSION`.
const WAIT_FOR_LOCK: &str = "SELECT set_config('lock_timeout', '250ms', true), pg_advisory_xact_lock($1), \
     set_config('lock_timeout', '5s', true)";
/// Takes the lock if it is free.
const TRY_LOCK: &str = "SELECT pg_try_advisory_xact_lock($1)";
/// How long this host does not wait for the lock after a timeout.
const AVOID_PERIOD: Duration = Duration::from_secs(30);
/// Selects the process ids of the lock's holders. `pg_locks` has a key of 64 bits in two halves.
const LOCK_HOLDERS: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
     AND (classid::bigint << 32 | objid::bigint) = $1";
/// The error code of a lock timeout.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// The error codes of a write conflict: a duplicate `seq` or `id`, and a deadlock.
const WRITE_CONFLICTS: [&str; 2] = ["23505", "40P01"];
/// Session parameters. The server aborts what takes longer, so that no host holds the lock forever.
const SESSION: [(&str, &str); 6] = [
    // Ids must always be looked up by the index: the table grows constantly, and its statistics lag behind.
    ("enable_seqscan", "off"),
    ("jit", "off"),
    ("statement_timeout", "10s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("client_min_messages", "warning"),
];

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(|| {
    let tables = include_str!("../../migrations/postgres/0001_audit.sql").into_sql_str();
    let first = Migration::new(1, "audit".into(), MigrationType::Simple, tables, false);
    Migrator::with_migrations(vec![first])
});

/// A Postgres database that is opened for writing.
#[derive(Debug)]
pub(crate) struct Postgres {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    /// The time of the last lock timeout.
    lock_timed_out: Option<Instant>,
}

impl Postgres {
    pub(super) async fn open(url: &SecretString) -> Result<Self, OpenError> {
        let options = postgres_url::options(url.expose_secret()).map_err(StoreError::InvalidUrl)?;
        let mut store = Self {
            options: options
                .application_name("postern-audit")
                .options(SESSION)
                .disable_statement_logging(),
            connection: None,
            lock_timed_out: None,
        };
        store.connect().await?;
        // The migrator takes its own lock: hosts that start together wait for each other.
        // Not `run`: the compiler cannot prove that its future is `Send`.
        if !store.is_migrated().await?
            && let Err(error) = MIGRATIONS.run_direct(None, store.connection()?, false).await
        {
            store.disconnect().await;
            return Err(OpenError::Migration(error));
        }
        Ok(store)
    }

    /// Whether the tables are up to date. Checked first, because migrating them takes privileges that a host which only
    /// appends should not have.
    async fn is_migrated(&mut self) -> Result<bool, StoreError> {
        let connection = self.connection()?;
        let exists: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await?;
        if !exists {
            return Ok(false);
        }
        let applied: Vec<(i64, Vec<u8>)> =
            sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version")
                .fetch_all(connection)
                .await?;
        let wanted = MIGRATIONS
            .iter()
            .map(|migration| (migration.version, migration.checksum.to_vec()));
        Ok(applied.into_iter().eq(wanted))
    }

    pub(super) async fn connect(&mut self) -> Result<bool, StoreError> {
        if self.connection.is_some() {
            return Ok(false);
        }
        let mut connection = PgConnection::connect_with(&self.options).await?;
        let settings = "SELECT current_setting('fsync'), current_setting('synchronous_commit'), \
                        current_setting('server_encoding')";
        let (fsync, commit, encoding): (String, String, String) =
            sqlx::query_as(settings).fetch_one(&mut connection).await?;
        if fsync == "off" {
            return Err(StoreError::FsyncOff);
        }
        if encoding != "UTF8" {
            return Err(StoreError::Encoding(encoding));
        }
        if commit == "off" {
            sqlx::query("SET synchronous_commit = on")
                .execute(&mut connection)
                .await?;
        }
        self.connection = Some(connection);
        Ok(true)
    }

    pub(super) async fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Ok(Err(error)) = timeout(CLOSE_LIMIT, connection.close()).await
        {
            tracing::debug!(%error, "the connection to the audit store did not close cleanly");
        }
    }

    pub(super) async fn begin(&mut self) -> Result<Option<HeadRow>, StoreError> {
        self.begin_transaction().await?;
        let avoid = self
            .lock_timed_out
            .is_some_and(|since| since.elapsed() < AVOID_PERIOD);
        let lock = if avoid { TRY_LOCK } else { WAIT_FOR_LOCK };
        match sqlx::query(lock).bind(LOCK).execute(self.connection()?).await {
            Err(error) if has_code(&error, &[LOCK_NOT_AVAILABLE]) => {
                self.roll_back().await?;
                self.lock_timeout().await?;
                self.begin_transaction().await?;
            }
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let head = sqlx::query_as("SELECT seq, hash, recorded FROM audit_events ORDER BY seq DESC LIMIT 1");
        Ok(head.fetch_optional(self.connection()?).await?)
    }

    /// With READ COMMITTED each statement sees what was committed before it began, so the head that is read under the lock
    /// is the last one.
    async fn begin_transaction(&mut self) -> Result<(), StoreError> {
        sqlx::query("BEGIN ISOLATION LEVEL READ COMMITTED")
            .execute(self.connection()?)
            .await?;
        Ok(())
    }

    /// Rolls back the transaction, and keeps the connection.
    pub(super) async fn roll_back(&mut self) -> Result<(), StoreError> {
        sqlx::query("ROLLBACK").execute(self.connection()?).await?;
        Ok(())
    }

    /// Records a lock timeout, and logs the first one with the holders of the lock.
    async fn lock_timeout(&mut self) -> Result<(), StoreError> {
        let first = self.lock_timed_out.replace(Instant::now()).is_none();
        if first {
            let holders: Vec<i32> = sqlx::query_scalar(LOCK_HOLDERS)
                .bind(LOCK)
                .fetch_all(self.connection()?)
                .await?;
            tracing::warn!(
                ?holders,
                "cannot take the advisory lock that lets hosts append in turn: another Postgres session holds it; events \
                 are written without it"
            );
        }
        Ok(())
    }

    pub(super) async fn existing(&mut self, ids: &[Uuid]) -> Result<Vec<EventRow>, StoreError> {
        let existing =
            sqlx::query_as("SELECT id, seq, hash, payload FROM audit_events WHERE id = ANY($1)").bind(ids);
        Ok(existing.fetch_all(self.connection()?).await?)
    }

    pub(super) async fn insert(&mut self, entries: Vec<Entry>) -> Result<(), StoreError> {
        let count = entries.len();
        let mut seqs = Vec::with_capacity(count);
        let mut ids = Vec::with_capacity(count);
        let mut payloads = Vec::with_capacity(count);
        let mut hashes = Vec::with_capacity(count);
        for entry in entries {
            seqs.push(super::to_db_int(entry.seq)?);
            ids.push(entry.id);
            payloads.push(entry.payload);
            hashes.push(entry.hash.0.to_vec());
        }
        let insert = "INSERT INTO audit_events (seq, id, payload, hash) \
                      SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::text[], $4::bytea[])";
        let inserted = sqlx::query(insert)
            .bind(seqs)
            .bind(ids)
            .bind(payloads)
            .bind(hashes)
            .execute(self.connection()?)
            .await;
        let rows = inserted.map_err(|error| {
            if has_code(&error, &WRITE_CONFLICTS) {
                StoreError::WriteConflict
            } else {
                error.into()
            }
        })?;
        super::check_inserted(rows.rows_affected(), count)
    }

    pub(super) async fn insert_manifest(
        &mut self,
        event: &Event,
        signature: &ManifestSignature,
    ) -> Result<u64, StoreError> {
        let insert = "INSERT INTO manifest_signatures \
             (id, manifest_hash, signature, signer_id, signed_at, subject, request_id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING";
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
        let done = sqlx::query(
            "INSERT INTO audit_checkpoints (size, note) VALUES ($1, $2) ON CONFLICT (size) DO NOTHING",
        )
        .bind(size)
        .bind(note)
        .execute(self.connection()?)
        .await?;
        Ok(done.rows_affected())
    }

    pub(super) async fn has_checkpoint(&mut self, size: i64) -> Result<bool, StoreError> {
        let exists = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM audit_checkpoints WHERE size = $1)");
        Ok(exists.bind(size).fetch_one(self.connection()?).await?)
    }

    pub(super) async fn commit(&mut self) -> Result<(), StoreError> {
        sqlx::query("COMMIT").execute(self.connection()?).await?;
        Ok(())
    }

    pub(super) async fn hashes_at(&mut self, seqs: &[i64]) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        let hashes = sqlx::query_as("SELECT seq, hash FROM audit_events WHERE seq = ANY($1)").bind(seqs);
        Ok(hashes.fetch_all(self.connection()?).await?)
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

    fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        let disconnected = || StoreError::Sql(sqlx::Error::WorkerCrashed);
        self.connection.as_mut().ok_or_else(disconnected)
    }
}

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| codes.contains(&code.as_ref()))
}
