//! Postgres: many hosts append to one chain. What keeps it one is the primary key: of two hosts that write behind the same
//! head one fails, and tries again behind the other's events. So that this is rare, an advisory lock lets one transaction
//! at a time read the head and write behind it; it is freed with the transaction, also when a host is gone. Everybody who
//! may log in can take that lock and keep it, so nobody waits for it for long.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, SqlSafeStr as _};
use tokio::time::timeout;
use uuid::Uuid;

use super::{HeadRow, KnownRow};
use crate::{Entry, Event, ManifestSignature, OpenError, StoreError, postgres_url};

/// How long closing a connection may take.
const CLOSE: Duration = Duration::from_secs(1);
/// The number of the lock among the database's advisory locks: `postern` and 1.
const LOCK: i64 = 0x706f_7374_6572_6e01;
/// Waits for the lock, but not for long; what is waited for after it may take as long as `SESSION` says.
const IN_TURN: &str = "SELECT set_config('lock_timeout', '250ms', true), pg_advisory_xact_lock($1), \
     set_config('lock_timeout', '5s', true)";
/// Takes the lock if it is free.
const IF_FREE: &str = "SELECT pg_try_advisory_xact_lock($1)";
/// For how long nobody waits for a lock that was not to be had.
const AVOIDED: Duration = Duration::from_secs(30);
/// Who holds the lock: a key of 64 bits stands there in two halves.
const HOLDERS: &str = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
     AND (classid::bigint << 32 | objid::bigint) = $1";
/// What Postgres calls a lock that was not to be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// A place or id that is taken, and two that wait for each other: another host wrote at the same time.
const COLLISIONS: [&str; 2] = ["23505", "40P01"];
/// The server ends what takes longer, so that no host holds the lock for ever.
const SESSION: [(&str, &str); 6] = [
    // Ids are looked up in a table that grows all the time, and whose statistics lag behind: by the index, always.
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

/// A database of Postgres's.
#[derive(Debug)]
pub(crate) struct Postgres {
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    /// When the lock was not to be had.
    avoided: Option<Instant>,
}

impl Postgres {
    pub(super) async fn open(url: &SecretString) -> Result<Self, OpenError> {
        let options = postgres_url::options(url.expose_secret()).map_err(StoreError::Url)?;
        let mut store = Self {
            options: options
                .application_name("postern-audit")
                .options(SESSION)
                .disable_statement_logging(),
            connection: None,
            avoided: None,
        };
        store.connect().await?;
        // The migrator takes a lock of its own: hosts that start together wait for each other.
        // Not `run`: the compiler does not see that its future can be sent to another thread.
        if !store.is_migrated().await?
            && let Err(error) = MIGRATIONS.run_direct(None, store.connection()?, false).await
        {
            store.disconnect().await;
            return Err(OpenError::Migration(error));
        }
        Ok(store)
    }

    /// Whether the tables are as they should be. Looked at first, because making them takes rights that a host which
    /// only appends should not have.
    async fn is_migrated(&mut self) -> Result<bool, StoreError> {
        let connection = self.connection()?;
        let there: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
            .fetch_one(&mut *connection)
            .await?;
        if !there {
            return Ok(false);
        }
        let made: Vec<(i64, Vec<u8>)> =
            sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version")
                .fetch_all(connection)
                .await?;
        let wanted = MIGRATIONS.iter().map(|one| (one.version, one.checksum.to_vec()));
        Ok(made.into_iter().eq(wanted))
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
            return Err(StoreError::Volatile);
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
            && let Ok(Err(error)) = timeout(CLOSE, connection.close()).await
        {
            tracing::debug!(%error, "the audit store's connection did not close in order");
        }
    }

    pub(super) async fn begin(&mut self) -> Result<Option<HeadRow>, StoreError> {
        self.begin_transaction().await?;
        let avoided = self.avoided.is_some_and(|since| since.elapsed() < AVOIDED);
        let turn = if avoided { IF_FREE } else { IN_TURN };
        match sqlx::query(turn).bind(LOCK).execute(self.connection()?).await {
            Err(error) if has_code(&error, &[LOCK_NOT_AVAILABLE]) => {
                self.roll_back().await?;
                self.avoid_lock().await?;
                self.begin_transaction().await?;
            }
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        let head = sqlx::query_as("SELECT seq, hash, recorded FROM audit_events ORDER BY seq DESC LIMIT 1");
        Ok(head.fetch_optional(self.connection()?).await?)
    }

    /// Each statement sees what was committed before it began: the head is read once the lock is held.
    async fn begin_transaction(&mut self) -> Result<(), StoreError> {
        sqlx::query("BEGIN ISOLATION LEVEL READ COMMITTED")
            .execute(self.connection()?)
            .await?;
        Ok(())
    }

    /// Gives up what was begun, and keeps the connection.
    pub(super) async fn roll_back(&mut self) -> Result<(), StoreError> {
        sqlx::query("ROLLBACK").execute(self.connection()?).await?;
        Ok(())
    }

    /// Remembers that the lock was not to be had, and says who has it.
    async fn avoid_lock(&mut self) -> Result<(), StoreError> {
        let first = self.avoided.replace(Instant::now()).is_none();
        if first {
            let holders: Vec<i32> = sqlx::query_scalar(HOLDERS)
                .bind(LOCK)
                .fetch_all(self.connection()?)
                .await?;
            tracing::warn!(
                ?holders,
                "the lock that lets hosts append in turn was not to be had: another session of Postgres holds it; events \
                 are written without it"
            );
        }
        Ok(())
    }

    pub(super) async fn known(&mut self, ids: &[Uuid]) -> Result<Vec<KnownRow>, StoreError> {
        let known =
            sqlx::query_as("SELECT id, seq, hash, payload FROM audit_events WHERE id = ANY($1)").bind(ids);
        Ok(known.fetch_all(self.connection()?).await?)
    }

    pub(super) async fn insert(&mut self, entries: Vec<Entry>) -> Result<(), StoreError> {
        let count = entries.len();
        let mut seqs = Vec::with_capacity(count);
        let mut ids = Vec::with_capacity(count);
        let mut payloads = Vec::with_capacity(count);
        let mut hashes = Vec::with_capacity(count);
        for entry in entries {
            seqs.push(super::number(entry.seq)?);
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
            if has_code(&error, &COLLISIONS) {
                StoreError::Collided
            } else {
                error.into()
            }
        })?;
        super::all_taken(rows.rows_affected(), count)
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
        let there = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM audit_checkpoints WHERE size = $1)");
        Ok(there.bind(size).fetch_one(self.connection()?).await?)
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
        let none = || StoreError::Sql(sqlx::Error::WorkerCrashed);
        self.connection.as_mut().ok_or_else(none)
    }
}

fn has_code(error: &sqlx::Error, codes: &[&str]) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| codes.contains(&code.as_ref()))
}
