//! The stores: SQLite and Postgres.

use std::path::Path;
use std::time::Duration;

use futures_util::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _, stream};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, PgPool, SqlSafeStr as _, SqlStr, SqlitePool};

use super::rows::{self, Selection};
use super::sqlite::{self, Evidence};
use super::{Extent, Found, ReadError, place};
use crate::postgres_url;
use crate::verify::{ManifestRow, Row, Segment, StoredNote};

/// How long a store may take to answer that it is there.
const REACHED_WITHIN: Duration = Duration::from_secs(10);
/// How long rows may gather before they are taken. Taken one by one, each would wake a thread: that takes longer than
/// to verify it.
const GATHER: Duration = Duration::from_millis(1);
/// The most checkpoints beyond the end of a log that are read: one shows enough.
const BEYOND: i64 = 100;

const EVENTS: &str =
    "SELECT seq, id, payload, hash FROM audit_events WHERE seq BETWEEN $1 AND $2 ORDER BY seq";
/// What is so of rows that have a place. A table that was made anew without its constraints may have others; of Postgres's,
/// a column has one type.
const OF_SQLITE: &str = "typeof(seq) = 'integer'";
const OF_POSTGRES: &str = "seq IS NOT NULL";
const NOTES: &str =
    "SELECT size, note FROM audit_checkpoints WHERE size BETWEEN $1 AND $2 ORDER BY size LIMIT $3";
const LAST_NOTE: &str = "SELECT size, note FROM audit_checkpoints ORDER BY size DESC LIMIT 1";
/// Rows that no event tells of are among them.
const MANIFESTS: &str = "SELECT id, manifest_hash, signature, signer_id, signed_at FROM manifest_signatures AS m \
     WHERE NOT EXISTS (SELECT 1 FROM audit_events AS e WHERE e.id = m.id AND e.seq > $1)";

/// A log that is read and not written.
#[derive(Debug, Clone)]
pub struct Reader {
    store: Store,
    evidence: Option<Evidence>,
}

#[derive(Debug, Clone)]
enum Store {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Store {
    /// A statement about the rows of `audit_events` that have a place.
    fn placed(&self, before: &str, after: &str) -> SqlStr {
        let placed = match self {
            Self::Sqlite(_) => OF_SQLITE,
            Self::Postgres(_) => OF_POSTGRES,
        };
        // Nothing in it is another's.
        AssertSqlSafe(format!("{before} ({placed}){after}")).into_sql_str()
    }
}

/// Does the same with either store.
macro_rules! with {
    ($reader:expr, $pool:ident => $do:expr) => {
        match &$reader.store {
            Store::Sqlite($pool) => $do,
            Store::Postgres($pool) => $do,
        }
    };
}

impl Reader {
    /// Opens the log that `url` names, `sqlite:PATH` or `postgres://…`, for so many who read at a time.
    ///
    /// # Errors
    /// If it names no store, or the store cannot be reached or has no log.
    pub async fn open(url: &str, readers: u32) -> Result<Self, ReadError> {
        let reader = match url.strip_prefix("sqlite:") {
            Some(path) => {
                let path = Path::new(path.strip_prefix("//").unwrap_or(path));
                let (pool, evidence) = sqlite::open(path, readers).await?;
                Self {
                    store: Store::Sqlite(pool),
                    evidence: Some(evidence),
                }
            }
            None if url.starts_with("postgres:") || url.starts_with("postgresql:") => {
                Self::postgres(postgres_url::options(url)?, readers).await?
            }
            None => return Err(ReadError::Url),
        };
        match reader.extent().await {
            Err(ReadError::Sql(sqlx::Error::Database(error))) if is_no_table(&*error) => {
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
            .acquire_timeout(REACHED_WITHIN)
            .connect_with(options)
            .await?;
        Ok(Self {
            store: Store::Postgres(pool),
            evidence: None,
        })
    }

    /// Whether the database was in use when it was copied, and its write-ahead log is not beside it.
    #[must_use]
    pub fn wal_missing(&self) -> bool {
        self.evidence
            .as_ref()
            .is_some_and(|evidence| evidence.wal_missing)
    }

    /// An error if the database lies where it cannot be locked, and was changed while it was read.
    ///
    /// # Errors
    /// [`ReadError::Changed`]
    pub fn is_settled(&self) -> Result<(), ReadError> {
        self.evidence.as_ref().map_or(Ok(()), Evidence::still_is)
    }

    /// What the log spans; nothing, if it is empty.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn extent(&self) -> Result<Option<Extent>, ReadError> {
        let extent = self
            .store
            .placed("SELECT min(seq), max(seq) FROM audit_events WHERE", "");
        let (first, last): (Option<i64>, Option<i64>) =
            with!(self, pool => sqlx::query_as(extent).fetch_one(pool).await?);
        Ok(first.zip(last).map(|(first, last)| Extent {
            first,
            last: u64::try_from(last).unwrap_or(0),
        }))
    }

    /// How many rows of `audit_events` have no place, because their number is none.
    pub(crate) async fn rows_without_place(&self) -> Result<u64, ReadError> {
        let extra = self
            .store
            .placed("SELECT count(*) FROM audit_events WHERE NOT", "");
        let rows: i64 = with!(self, pool => sqlx::query_scalar(extra).fetch_one(pool).await?);
        Ok(u64::try_from(rows).unwrap_or(0))
    }

    /// Verifies the events of a stretch.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn segment(&self, first: u64, last: u64) -> Result<Segment, ReadError> {
        let (from, to) = (place(first), place(last));
        match &self.store {
            Store::Sqlite(pool) => {
                let events = sqlx::query(EVENTS).bind(from).bind(to).fetch(pool);
                verified(gathered(events), rows::of_sqlite, first, last).await
            }
            Store::Postgres(pool) => {
                let events = sqlx::query(EVENTS).bind(from).bind(to).fetch(pool);
                verified(events, rows::of_postgres, first, last).await
            }
        }
    }

    /// The events from one place to another. All of them are held at once: ask for few.
    ///
    /// # Errors
    /// If the store cannot be read, or one of them cannot.
    pub async fn between(&self, first: u64, last: u64) -> Result<Vec<Found>, ReadError> {
        let (from, to) = (place(first), place(last));
        match &self.store {
            Store::Sqlite(pool) => {
                let events = sqlx::query(EVENTS).bind(from).bind(to).fetch(pool);
                found(events, rows::of_sqlite).await
            }
            Store::Postgres(pool) => {
                let events = sqlx::query(EVENTS).bind(from).bind(to).fetch(pool);
                found(events, rows::of_postgres).await
            }
        }
    }

    /// The last events, the newest last.
    ///
    /// # Errors
    /// If the store cannot be read, or one of them cannot.
    pub async fn last(&self, number: u32) -> Result<Vec<Found>, ReadError> {
        let last = self.store.placed(
            "SELECT seq, id, payload, hash FROM audit_events WHERE",
            " ORDER BY seq DESC LIMIT $1",
        );
        let number = i64::from(number);
        let mut last = match &self.store {
            Store::Sqlite(pool) => found(sqlx::query(last).bind(number).fetch(pool), rows::of_sqlite).await?,
            Store::Postgres(pool) => {
                found(sqlx::query(last).bind(number).fetch(pool), rows::of_postgres).await?
            }
        };
        last.reverse();
        Ok(last)
    }

    /// The newest events that match, the newest last.
    ///
    /// # Errors
    /// If the store cannot be read, or one of them cannot.
    pub async fn select(&self, selection: &Selection) -> Result<Vec<Found>, ReadError> {
        let mut selected = match &self.store {
            Store::Sqlite(pool) => {
                let mut query = selection.sql("payload", OF_SQLITE);
                found(query.build().fetch(pool), rows::of_sqlite).await?
            }
            Store::Postgres(pool) => {
                let mut query = selection.sql("payload::jsonb", OF_POSTGRES);
                found(query.build().fetch(pool), rows::of_postgres).await?
            }
        };
        selected.reverse();
        Ok(selected)
    }

    /// The checkpoints over so many events.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn notes(&self, from: i64, to: u64) -> Result<Vec<StoredNote>, ReadError> {
        self.some_notes(from, place(to), i64::MAX).await
    }

    /// Checkpoints over more events than `size`, but not over more than `most`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn notes_beyond(&self, size: u64, most: u64) -> Result<Vec<StoredNote>, ReadError> {
        self.some_notes(place(size).saturating_add(1), place(most), BEYOND)
            .await
    }

    async fn some_notes(&self, from: i64, to: i64, limit: i64) -> Result<Vec<StoredNote>, ReadError> {
        let notes: Vec<(i64, String)> = with!(self, pool => {
            sqlx::query_as(NOTES).bind(from).bind(to).bind(limit).fetch_all(pool).await?
        });
        Ok(notes.into_iter().map(stored).collect())
    }

    /// The checkpoint over the most events.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn last_note(&self) -> Result<Option<StoredNote>, ReadError> {
        let note: Option<(i64, String)> =
            with!(self, pool => sqlx::query_as(LAST_NOTE).fetch_optional(pool).await?);
        Ok(note.map(stored))
    }

    /// Hands over each signature of a manifest but those that events behind the event `last` tell of.
    ///
    /// # Errors
    /// If the store cannot be read, or whoever takes them fails.
    pub async fn manifests<E: From<ReadError>>(
        &self,
        last: u64,
        mut take: impl FnMut(ManifestRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = |error| E::from(ReadError::Sql(error));
        match &self.store {
            Store::Sqlite(pool) => {
                let mut all = sqlx::query(MANIFESTS).bind(place(last)).fetch(pool);
                while let Some(row) = all.try_next().await.map_err(sql)? {
                    take(rows::manifest_of_sqlite(&row))?;
                }
            }
            Store::Postgres(pool) => {
                let mut all = sqlx::query(MANIFESTS).bind(place(last)).fetch(pool);
                while let Some(row) = all.try_next().await.map_err(sql)? {
                    take(rows::manifest_of_postgres(&row))?;
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

fn is_no_table(error: &dyn sqlx::error::DatabaseError) -> bool {
    // Postgres has a code for it, SQLite only words.
    error.code().is_some_and(|code| code == "42P01") || error.message().starts_with("no such table")
}

/// The same rows, taken when some have gathered.
fn gathered<R>(rows: impl Stream<Item = R> + Unpin) -> impl Stream<Item = R> + Unpin {
    Box::pin(stream::unfold(rows, async |mut rows| {
        loop {
            match rows.next().now_or_never() {
                Some(row) => return Some((row?, rows)),
                None => tokio::time::sleep(GATHER).await,
            }
        }
    }))
}

async fn verified<R>(
    mut events: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
    row: for<'r> fn(&'r R) -> Row<'r>,
    first: u64,
    last: u64,
) -> Result<Segment, ReadError> {
    let mut segment = Segment::new(first);
    while let Some(event) = events.try_next().await? {
        if !segment.feed(&row(&event)) {
            break;
        }
    }
    segment.end(last);
    Ok(segment)
}

async fn found<R>(
    mut events: impl Stream<Item = Result<R, sqlx::Error>> + Unpin,
    row: for<'r> fn(&'r R) -> Row<'r>,
) -> Result<Vec<Found>, ReadError> {
    let mut all = Vec::new();
    while let Some(event) = events.try_next().await? {
        all.push(rows::found(&row(&event))?);
    }
    Ok(all)
}
