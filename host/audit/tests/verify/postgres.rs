//! The same in Postgres.

use postern_audit::Decision;
use postern_audit::export::{Range, export};
use postern_audit::read::{ReadError, Reader, Selection};
use postern_audit::verify::{Code, Report, verify};
use postern_testbed::postgres::Postgres;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::runtime::Runtime;
use uuid::Uuid;

use crate::support::{Log, at, found, replayed, signed};

const SCHEMA: &str = include_str!("../../migrations/postgres/0001_audit.sql");
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
