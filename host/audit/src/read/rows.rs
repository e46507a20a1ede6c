//! Rows, and asking for some of them.

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Database, Encode, QueryBuilder, Row as _, Type};
use uuid::Uuid;

use super::{Found, ReadError, place};
use crate::verify::{ManifestRow, Row};
use crate::{Decision, Entry, Hash, Kind};

/// A row of SQLite's. What a column cannot hold in a sound log is read as nothing, which no event verifies with.
pub(super) fn of_sqlite(row: &SqliteRow) -> Row<'_> {
    let bytes = |column| row.try_get_unchecked::<&[u8], usize>(column).unwrap_or_default();
    Row {
        seq: number(row.try_get_unchecked(0)),
        id: Some(bytes(1)),
        payload: bytes(2),
        hash: bytes(3),
    }
}

/// A row of Postgres's, in its binary form: a UUID is its 16 bytes.
pub(super) fn of_postgres(row: &PgRow) -> Row<'_> {
    let bytes = |column| row.try_get_unchecked::<&[u8], usize>(column).unwrap_or_default();
    Row {
        seq: number(row.try_get_unchecked(0)),
        id: Some(bytes(1)),
        payload: bytes(2),
        hash: bytes(3),
    }
}

fn number(column: Result<i64, sqlx::Error>) -> u64 {
    column.ok().and_then(|seq| u64::try_from(seq).ok()).unwrap_or(0)
}

pub(super) fn manifest_of_sqlite(row: &SqliteRow) -> ManifestRow {
    let bytes = |column| {
        row.try_get_unchecked::<Vec<u8>, usize>(column)
            .unwrap_or_default()
    };
    let text = |column| row.try_get_unchecked::<String, usize>(column).unwrap_or_default();
    ManifestRow {
        id: bytes(0),
        manifest_hash: bytes(1),
        signature: bytes(2),
        signer_id: text(3),
        signed_at: text(4),
    }
}

pub(super) fn manifest_of_postgres(row: &PgRow) -> ManifestRow {
    let bytes = |column| {
        row.try_get_unchecked::<&[u8], usize>(column)
            .unwrap_or_default()
            .to_vec()
    };
    let text = |column| row.try_get_unchecked::<String, usize>(column).unwrap_or_default();
    ManifestRow {
        id: bytes(0),
        manifest_hash: bytes(1),
        signature: bytes(2),
        signer_id: text(3),
        signed_at: text(4),
    }
}

/// An event of its own.
pub(super) fn found(row: &Row<'_>) -> Result<Found, ReadError> {
    let unreadable = || ReadError::Payload(row.seq);
    let payload = std::str::from_utf8(row.payload).map_err(|_| unreadable())?;
    let id = Uuid::from_slice(row.id.unwrap_or_default()).map_err(|_| unreadable())?;
    let hash = <[u8; 32]>::try_from(row.hash)
        .map(Hash)
        .map_err(|_| unreadable())?;
    let sound = Hash::of(row.payload) == hash;
    let entry = Entry {
        seq: row.seq,
        id,
        payload: payload.to_owned(),
        hash,
    };
    Ok(Found { entry, sound })
}

/// Which events are asked for; what is not said does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Who asked.
    pub subject: Option<String>,
    /// The gate's rule.
    pub rule: Option<String>,
    /// For which tenant.
    pub tenant: Option<String>,
    /// The request.
    pub request_id: Option<String>,
    /// What came of it.
    pub decision: Option<Decision>,
    /// What it tells of.
    pub kind: Option<Kind>,
    /// The first event.
    pub from: Option<u64>,
    /// The last event.
    pub to: Option<u64>,
    /// How many at most; the newest count.
    pub limit: u32,
}

impl Selection {
    /// The statement; `json` is how the store calls the payload as JSON, `placed` what is so of rows that have a place.
    pub(super) fn sql<DB: Database>(&self, json: &str, placed: &str) -> QueryBuilder<DB>
    where
        String: for<'q> Encode<'q, DB> + Type<DB>,
        i64: for<'q> Encode<'q, DB> + Type<DB>,
    {
        let mut sql = QueryBuilder::new("SELECT seq, id, payload, hash FROM audit_events WHERE ");
        sql.push(format!("{placed} AND seq >= "));
        sql.push_bind(place(self.from.unwrap_or(0)));
        sql.push(" AND seq <= ")
            .push_bind(place(self.to.unwrap_or(u64::MAX)));
        let texts = [
            ("subject", self.subject.as_deref()),
            ("rule", self.rule.as_deref()),
            ("tenant", self.tenant.as_deref()),
            ("request_id", self.request_id.as_deref()),
            ("decision", self.decision.map(Decision::name)),
            ("kind", self.kind.map(Kind::name)),
        ];
        for (field, text) in texts {
            if let Some(text) = text {
                // The names are ours; what is asked for is bound.
                sql.push(format!(" AND {json} ->> '{field}' = "))
                    .push_bind(text.to_owned());
            }
        }
        sql.push(" ORDER BY seq DESC LIMIT ")
            .push_bind(i64::from(self.limit));
        sql
    }
}
