//! Parses rows, and selects them.

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Database, Encode, QueryBuilder, Row as _, Type};
use uuid::Uuid;

use super::{ReadError, StoredEvent, to_db_int};
use crate::verify::{ManifestRow, Row};
use crate::{Decision, Entry, Hash, Kind};

/// A row from SQLite. A value of a type that no valid row has is read as empty, and fails verification.
pub(super) fn of_sqlite(row: &SqliteRow) -> Row<'_> {
    let bytes = |column| row.try_get_unchecked::<&[u8], usize>(column).unwrap_or_default();
    Row {
        seq: number(row.try_get_unchecked(0)),
        id: Some(bytes(1)),
        payload: bytes(2),
        hash: bytes(3),
    }
}

/// A row from Postgres in its binary format: a UUID is its 16 bytes.
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

/// Parses a row into an owned event.
pub(super) fn parse(row: &Row<'_>) -> Result<StoredEvent, ReadError> {
    let unreadable = || ReadError::UnreadableEvent(row.seq);
    let payload = std::str::from_utf8(row.payload).map_err(|_| unreadable())?;
    let id = Uuid::from_slice(row.id.unwrap_or_default()).map_err(|_| unreadable())?;
    let hash = <[u8; 32]>::try_from(row.hash)
        .map(Hash)
        .map_err(|_| unreadable())?;
    let hash_matches = Hash::of(row.payload) == hash;
    let entry = Entry {
        seq: row.seq,
        id,
        payload: payload.to_owned(),
        hash,
    };
    Ok(StoredEvent { entry, hash_matches })
}

/// Selects events: a field that is `None` matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The caller.
    pub subject: Option<String>,
    /// The gate's rule.
    pub rule: Option<String>,
    /// The caller's tenant.
    pub tenant: Option<String>,
    /// The id of the request.
    pub request_id: Option<String>,
    /// The decision or result.
    pub decision: Option<Decision>,
    /// The kind of the event.
    pub kind: Option<Kind>,
    /// The first event of the range.
    pub from: Option<u64>,
    /// The last event of the range.
    pub to: Option<u64>,
    /// The limit of returned events: the newest are returned.
    pub limit: u32,
}

impl Selection {
    /// Builds the statement. `json` is the store's expression for the payload as JSON, `valid_seq` its condition for rows with
    /// a valid `seq`.
    pub(super) fn sql<DB: Database>(&self, json: &str, valid_seq: &str) -> QueryBuilder<DB>
    where
        String: for<'q> Encode<'q, DB> + Type<DB>,
        i64: for<'q> Encode<'q, DB> + Type<DB>,
    {
        let mut sql = QueryBuilder::new("SELECT seq, id, payload, hash FROM audit_events WHERE ");
        sql.push(format!("{valid_seq} AND seq >= "));
        sql.push_bind(to_db_int(self.from.unwrap_or(0)));
        sql.push(" AND seq <= ")
            .push_bind(to_db_int(self.to.unwrap_or(u64::MAX)));
        let filters = [
            ("subject", self.subject.as_deref()),
            ("rule", self.rule.as_deref()),
            ("tenant", self.tenant.as_deref()),
            ("request_id", self.request_id.as_deref()),
            ("decision", self.decision.map(Decision::name)),
            ("kind", self.kind.map(Kind::name)),
        ];
        for (field, value) in filters {
            if let Some(value) = value {
                // The names are constants; the values are bound.
                sql.push(format!(" AND {json} ->> '{field}' = "))
                    .push_bind(value.to_owned());
            }
        }
        sql.push(" ORDER BY seq DESC LIMIT ")
            .push_bind(i64::from(self.limit));
        sql
    }
}
