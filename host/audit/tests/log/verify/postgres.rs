//! Verifying a log in Postgres.

use postern_audit::export::{Range, export};
use postern_audit::read::{ReadError, Reader, Selection};
use postern_audit::verify::{Code, Report, verify};
use postern_audit::{CopyError, Decision, Store, copy, record_restored};
use postern_testbed::postgres::Postgres;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::support::{Log, at, found, replayed, signed};

const SCHEMA: &str = include_str!("../../../migrations/postgres/0001_audit.sql");
const WIPE: &str = "DROP TABLE IF EXISTS audit_events, audit_checkpoints, manifest_signatures";

async fn write(log: &Log, url: &str) {
    let mut store = PgConnection::connect(url).await.unwrap();
    store.execute(WIPE).await.unwrap();
    store.execute(SCHEMA).await.unwrap();
    for row in &log.rows {
        let insert = sqlx::query("INSERT INTO audit_events (seq, id, payload, hash) VALUES ($1, $2, $3, $4)");
        let insert = insert
            .bind(row.seq)
            .bind(Uuid::from_slice(&row.id).unwrap())
            .bind(&row.payload);
        insert.bind(&row.hash).execute(&mut store).await.unwrap();
    }
    for (size, note) in &log.notes {
        let insert = sqlx::query("INSERT INTO audit_checkpoints (size, note) VALUES ($1, $2)");
        insert.bind(size).bind(note).execute(&mut store).await.unwrap();
    }
    store.close().await.unwrap();
}

async fn verified(url: &str) -> Report {
    let reader = Reader::open(url, 2).await.unwrap();
    verify(&reader, signed(), 2, |_| {}).await.unwrap()
}

#[test]
fn a_log_in_postgres_is_read_and_verified() {
    let server = Postgres::start().unwrap();
    let url = server.url();
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        assert!(matches!(Reader::open(&url, 1).await, Err(ReadError::NoLog)));
        let log = Log::new(25);
        write(&log, &url).await;
        let report = verified(&url).await;
        assert_eq!(
            (found(&report), report.events, report.covered),
            (None, 25, Some(20)),
            "{report:?}"
        );

        let reader = Reader::open(&url, 2).await.unwrap();
        let selection = Selection {
            subject: Some("ann".to_owned()),
            decision: Some(Decision::Denied),
            tenant: Some("north".to_owned()),
            limit: 2,
            ..Selection::default()
        };
        let selected = reader.select(&selection).await.unwrap();
        assert_eq!(
            selected.iter().map(|found| found.entry.seq).collect::<Vec<_>>(),
            [18, 24]
        );
        assert_eq!(reader.first_since(at(17)).await.unwrap(), 17);
        let mut out = Vec::new();
        let all = Range { first: 1, last: None };
        export(&reader, all, &mut out, at(1000), |_| {}).await.unwrap();
        assert_eq!(replayed(&out, signed()).unwrap().1, report);

        for (tamper, seq, code) in [
            (
                "UPDATE audit_events SET payload = replace(payload, 'edge-1', 'edge-2') WHERE seq = 7",
                7,
                Code::PayloadChanged,
            ),
            ("DELETE FROM audit_events WHERE seq = 7", 7, Code::EventMissing),
            ("DELETE FROM audit_events WHERE seq > 15", 16, Code::TailMissing),
            (
                "UPDATE audit_events SET seq = -1 WHERE seq = 1",
                1,
                Code::EventOutOfOrder,
            ),
            (
                "ALTER TABLE audit_events DROP CONSTRAINT audit_events_pkey; \
                 ALTER TABLE audit_events ALTER COLUMN seq DROP NOT NULL; \
                 INSERT INTO audit_events (id, payload, hash) SELECT gen_random_uuid(), '{}', sha256('')",
                0,
                Code::EventExtra,
            ),
            (
                "UPDATE audit_events SET id = gen_random_uuid() WHERE seq = 7",
                7,
                Code::IdDiffers,
            ),
            (
                "UPDATE audit_checkpoints SET note = replace(note, 'kernel', 'kermel') WHERE size = 10",
                10,
                Code::CheckpointSignerUnknown,
            ),
        ] {
            write(&log, &url).await;
            let mut store = PgConnection::connect(&url).await.unwrap();
            store.execute(tamper).await.unwrap();
            let report = verified(&url).await;
            assert_eq!(found(&report), Some((seq, code)), "{tamper}: {report:?}");
        }
    });
}

/// A backup of a log in Postgres is a SQLite file, and can be restored to either store.
#[test]
fn a_log_is_copied_from_one_store_to_the_other_and_back() {
    let (from, to) = (Postgres::start().unwrap(), Postgres::start().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup.db");
    Runtime::new().unwrap().block_on(async {
        write(&Log::new(25), &from.url()).await;
        let origin = verified(&from.url()).await;
        let source = Reader::open(&from.url(), 2).await.unwrap();
        let head = copy(&source, &Store::Sqlite(file.clone()), |_| {}).await.unwrap();
        let backup = format!("sqlite:{}", file.display());
        assert_eq!(verified(&backup).await, origin);
        let back = Reader::open(&backup, 2).await.unwrap();
        let target = Store::Postgres(to.url().into());
        assert_eq!(copy(&back, &target, |_| {}).await.unwrap(), head);
        assert_eq!(verified(&to.url()).await, origin);
        let again = copy(&back, &target, |_| {}).await;
        assert!(matches!(again, Err(CopyError::NotEmpty)), "{again:?}");
        // The log that continues records where it was restored.
        let end = record_restored(&target, "host-1", &head, at(30)).await.unwrap();
        let report = verified(&to.url()).await;
        assert_eq!((found(&report), report.size, report.hash), (None, 26, end.hash));
    });
}
