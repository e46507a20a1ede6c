//! The reader of a log in SQLite or Postgres.

use std::path::Path;
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _, stream};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool, SqlSafeStr as _, SqlStr, SqlitePool};

use super::rows::{self, Selection};
use super::sqlite::{self, DatabaseFile};
use super::{Extent, ReadError, StoredEvent, to_db_int};
use crate::postgres_url;
use crate::verify::{ManifestRow, Row, Segment, StoredNote};

/// Limit of connecting to a store.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// How long to let rows accumulate. Received one by one, each row would wake a thread, which takes longer than verifying
/// it.
const ACCUMULATE: Duration = Duration::from_millis(1);
/// The limit of checkpoints past the end of a log; even one shows that the tail was cut off.
const MAX_PAST_END: i64 = 100;

const EVENTS: &str =
    "SELECT seq, id, payload, hash FROM audit_events WHERE seq BETWEEN $1 AND $2 ORDER BY seq";
/// The conditions for rows with a valid `seq`. A table that was recreated without its constraints may have others. In
/// Postgres, the type of the column always applies.
const VALID_SEQ_SQLITE: &str = "typeof(seq) = 'integer'";
const VALID_SEQ_POSTGRES: &str = "seq IS NOT NULL";
const NOTES: &str =
    "SELECT size, note FROM audit_checkpoints WHERE size BETWEEN $1 AND $2 ORDER BY size LIMIT $3";
const LAST_NOTE: &str = "SELECT size, note FROM audit_checkpoints ORDER BY size DESC LIMIT 1";
/// All rows, including those that no event records, except those recorded after event `$1`.
const MANIFESTS: &str = "SELECT id, manifest_hash, signature, signer_id, signed_at FROM manifest_signatures AS m \
     WHERE NOT EXISTS (SELECT 1 FROM audit_events AS e WHERE e.id = m.id AND e.seq > $1)";

/// A log that is opened read-only.
#[derive(Debug, Clone)]
pub struct Reader {
    pool: Pool,
    file: Option<DatabaseFile>,
}

#[derive(Debug, Clone)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    /// A statement about the rows of `audit_events` with a valid `seq`.
    fn valid_seq(&self, before: &str, after: &str) -> SqlStr {
        let condition = match self {
            Self::Sqlite(_) => VALID_SEQ_SQLITE,
            Self::Postgres(_) => VALID_SEQ_POSTGRES,
        };
        // No part of it is input.
        AssertSqlSafe(format!("{before} ({condition}){after}")).into_sql_str()
    }
}

/// Evaluates the same expression with either pool.
macro_rules! with {
    ($reader:expr, $pool:ident => $do:expr) => {
        match &$reader.pool {
            Pool::Sqlite($pool) => $do,
            Pool::Postgres($pool) => $do,
        }
    };
}

impl Reader {
    /// Opens the log at `url`, `sqlite:PATH` or `postgres://…`, with up to `readers` connections.
    ///
    /// # Errors
    /// If the URL is invalid, or the store cannot be opened or has no log.
    pub async fn open(url: &str, readers: u32) -> Result<Self, ReadError> {
        let reader = match url.strip_prefix("sqlite:") {
            Some(path) => {
                let path = Path::new(path.strip_prefix("//").unwrap_or(path));
                let (pool, file) = sqlite::open(path, readers).await?;
                Self {
                    pool: Pool::Sqlite(pool),
                    file: Some(file),
                }
            }
            None if url.starts_with("postgres:") || url.starts_with("postgresql:") => {
                Self::postgres(postgres_url::options(url)?, readers).await?
            }
            None => return Err(ReadError::InvalidUrl),
        };
        match reader.extent().await {
            Err(ReadError::Sql(sqlx::Error::Database(error))) if is_missing_table(&*error) => {
                Err(ReadError::NoLog)
            }
            Err(error) => Err(error),
            Ok(_) => Ok(reader),
        }
    }

    async fn postgres(options: PgConnectOptions, readers: u32) -> Result<Self, ReadError> {
        let options = options
            .application_name("postern audit")
            .options([("default_transaction_read_only", "on")]);
        let pool = PgPoolOptions::new()
            .max_connections(readers)
            .acquire_timeout(CONNECT_LIMIT)
            .connect_with(options)
            .await?;
        Ok(Self {
            pool: Pool::Postgres(pool),
            file: None,
        })
    }

    /// Whether the database was copied during use, without its write-ahead log.
    #[must_use]
    pub fn wal_missing(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.wal_missing)
    }

    /// Fails if the database is read without locks and changed meanwhile.
    ///
    /// # Errors
    /// [`ReadError::Changed`]
    pub fn check_unchanged(&self) -> Result<(), ReadError> {
        self.file.as_ref().map_or(Ok(()), DatabaseFile::check_unchanged)
    }

    /// The range of sequence numbers; `None` if the log is empty.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn extent(&self) -> Result<Option<Extent>, ReadError> {
        let extent = self
            .pool
            .valid_seq("SELECT min(seq), max(seq) FROM audit_events WHERE", "");
        let (first, last): (Option<i64>, Option<i64>) =
            with!(self, pool => sqlx::query_as(extent).fetch_one(pool).await?);
        Ok(first.zip(last).map(|(first, last)| Extent {
            first,
            last: u64::try_from(last).unwrap_or(0),
        }))
    }

    /// The number of rows of `audit_events` without a valid `seq`.
    pub(crate) async fn rows_without_seq(&self) -> Result<u64, ReadError> {
        let extra = self
            .pool
            .valid_seq("SELECT count(*) FROM audit_events WHERE NOT", "");
        let rows: i64 = with!(self, pool => sqlx::query_scalar(extra).fetch_one(pool).await?);
        Ok(u64::try_from(rows).unwrap_or(0))
    }

    /// Reads and verifies a segment.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn segment(&self, first: u64, last: u64) -> Result<Segment, ReadError> {
        let (from, to) = (to_db_int(first), to_db_int(last));
        match &self.pool {
            Pool::Sqlite(pool) => {
                let events = sqlx::query(EVENTS).bind(from).bind(to).fetch(pool);
                verify_rows(accumulate(events), rows::of_sqlite, first, last).await
            }
            Pool::Postgres(pool) => {
                let events = sqlx::query(EVENTS).bind(from).bind(to).fetch(pool);
                verify_rows(events, rows::of_postgres, first, last).await
            }
        }
    }

    /// The events `first` to `last`. All of them are held in memory.
    ///
    /// # Errors
    /// If the store, or one of the events, cannot be read.
    pub async fn between(&self, first: u64, last: u64) -> Result<Vec<StoredEvent>, ReadError> {
        let (from, to) = (to_db_int(first), to_db_int(last));
        match &self.pool {
            Pool::Sqlite(pool) => {
                let events = sqlx::query(EVENTS).bind(from).bind(to).fetch(pool);
                read_rows(events, rows::of_sqlite).await
            }
            Pool::Postgres(pool) => {
                let events = sqlx::query(EVENTS).bind(from).bind(to).fetch(pool);
                read_rows(events, rows::of_postgres).await
            }
        }
    }

    /// The last `number` events, the newest last.
    ///
    /// # Errors
    /// If the store, or one of the events, cannot be read.
    pub async fn last(&self, number: u32) -> Result<Vec<StoredEvent>, ReadError> {
        let last = self.pool.valid_seq(
            "SELECT seq, id, payload, hash FROM audit_events WHERE",
            " ORDER BY seq DESC LIMIT $1",
        );
        let number = i64::from(number);
        let mut last = match &self.pool {
            Pool::Sqlite(pool) => {
                read_rows(sqlx::query(last).bind(number).fetch(pool), rows::of_sqlite).await?
            }
            Pool::Postgres(pool) => {
                read_rows(sqlx::query(last).bind(number).fetch(pool), rows::of_postgres).await?
            }
        };
        last.reverse();
        Ok(last)
    }

    /// The newest events that match, the newest last.
    ///
    /// # Errors
    /// If the store, or one of the events, cannot be read.
    pub async fn select(&self, selection: &Selection) -> Result<Vec<StoredEvent>, ReadError> {
        let mut selected = match &self.pool {
            Pool::Sqlite(pool) => {
                let mut query = selection.sql("payload", VALID_SEQ_SQLITE);
                read_rows(query.build().fetch(pool), rows::of_sqlite).await?
            }
            Pool::Postgres(pool) => {
                let mut query = selection.sql("payload::jsonb", VALID_SEQ_POSTGRES);
                read_rows(query.build().fetch(pool), rows::of_postgres).await?
            }
        };
        selected.reverse();
        Ok(selected)
    }

    /// The checkpoints with a size from `from` to `to`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn notes(&self, from: i64, to: u64) -> Result<Vec<StoredNote>, ReadError> {
        self.some_notes(from, to_db_int(to), i64::MAX).await
    }

    /// The checkpoints with a size above `size` and up to `most`; at most 100.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn notes_beyond(&self, size: u64, most: u64) -> Result<Vec<StoredNote>, ReadError> {
        self.some_notes(to_db_int(size).saturating_add(1), to_db_int(most), MAX_PAST_END)
            .await
    }

    async fn some_notes(&self, from: i64, to: i64, limit: i64) -> Result<Vec<StoredNote>, ReadError> {
        let notes: Vec<(i64, String)> = with!(self, pool => {
            sqlx::query_as(NOTES).bind(from).bind(to).bind(limit).fetch_all(pool).await?
        });
        Ok(notes.into_iter().map(stored).collect())
    }

    /// The largest checkpoint.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn last_note(&self) -> Result<Option<StoredNote>, ReadError> {
        let note: Option<(i64, String)> =
            with!(self, pool => sqlx::query_as(LAST_NOTE).fetch_optional(pool).await?);
        Ok(note.map(stored))
    }

    /// Passes each manifest signature to `on_row`, except those recorded by events after `last`.
    ///
    /// # Errors
    /// If the store cannot be read, or `on_row` fails.
    pub async fn manifests<E: From<ReadError>>(
        &self,
        last: u64,
        mut on_row: impl FnMut(ManifestRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = |error| E::from(ReadError::Sql(error));
        match &self.pool {
            Pool::Sqlite(pool) => {
                let mut all = sqlx::query(MANIFESTS).bind(to_db_int(last)).fetch(pool);
                while let Some(row) = all.try_next().await.map_err(sql)? {
                    on_row(rows::manifest_of_sqlite(&row))?;
                }
            }
            Pool::Postgres(pool) => {
                let mut all = sqlx::query(MANIFESTS).bind(to_db_int(last)).fetch(pool);
                while let Some(row) = all.try_next().await.map_err(sql)? {
                    on_row(rows::manifest_of_postgres(&row))?;
                }
            }
        }
        Ok(())
    }
}

fn stored((size, text): (i64, String)) -> StoredNote {
    StoredNote {
        size: u64::try_from(size).unwrap_or(0),
        text,
    }
}

fn is_missing_table(error: &dyn sqlx::error::DatabaseError) -> bool {
    // Postgres has an error code for it, SQLite only a message.
    error.code().is_some_and(|code| code == "42P01") || error.message().starts_with("no such table")
}

/// Yields the same rows, but lets some accumulate.
fn accumulate<R>(rows: impl Stream<Item = R> + Unpin) -> impl Stream<Item = R> + Unpin {
    Box::pin(stream::unfold(rows, async |mut rows| {
        loop {
            match rows.next().now_or_never() {
                Some(row) => return Some((row?, rows)),
                None => tokio::time::sleep(ACCUMULATE).await,
            }
        }
    }))
}

async fn verify_rows<R>(
    mut events: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
    row: for<'r> fn(&'r R) -> Row<'r>,
    first: u64,
    last: u64,
) -> Result<Segment, ReadError> {
    let mut segment = Segment::new(first);
    while let Some(event) = events.try_next().await? {
        if !segment.push(&row(&event)) {
            break;
        }
    }
    segment.finish(last);
    Ok(segment)
}

async fn read_rows<R>(
    mut events: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
    row: for<'r> fn(&'r R) -> Row<'r>,
) -> Result<Vec<StoredEvent>, ReadError> {
    let mut all = Vec::new();
    while let Some(event) = events.try_next().await? {
        all.push(rows::parse(&row(&event))?);
    }
    Ok(all)
}
