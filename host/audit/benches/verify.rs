//! Measures the verification of a log in SQLite: `cargo bench --workspace --profile dev --bench verify`.
//!
//! `POSTERN_BENCH_EVENTS` sets the number of events (default: 500,000). The peak memory is printed with the rate: a run with
//! 10,000,000 events shows that it does not grow.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark may fail this way"
)]

use std::time::Instant;

use postern_audit::read::Reader;
use postern_audit::verify::{TrustedReferences, verify};
use postern_audit::{Decision, Event, GENESIS, Hash, Kind, Record, Time};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{Connection as _, Executor as _};

const START: u64 = 1_767_225_600_000_000;

fn main() {
    let events: u64 = std::env::var("POSTERN_BENCH_EVENTS").map_or(500_000, |number| number.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.sqlite");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let bytes = runtime.block_on(fill(&path, events));
    println!("{events} events, {} bytes of payload each", bytes / events);
    for readers in [1, 2] {
        let reader = runtime
            .block_on(Reader::open(&format!("sqlite:{}", path.display()), readers))
            .unwrap();
        let started = Instant::now();
        let report = runtime.block_on(verify(
            &reader,
            TrustedReferences::none(),
            readers as usize,
            |_| {},
        ));
        let seconds = started.elapsed().as_secs_f64();
        let report = report.unwrap();
        assert!(report.is_intact() && report.events == events, "{report:?}");
        println!(
            "{readers} readers: {:.0} events/s, {seconds:.2} s; {}",
            events as f64 / seconds,
            memory()
        );
    }
}

fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap_or("VmHWM: unknown");
    peak.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn fill(path: &std::path::Path, events: u64) -> u64 {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off);
    let mut store = SqliteConnection::connect_with(&options).await.unwrap();
    store
        .execute(include_str!("../migrations/sqlite/0001_audit.sql"))
        .await
        .unwrap();
    let (mut prev_hash, mut bytes) = (GENESIS, 0);
    store.execute("BEGIN").await.unwrap();
    for seq in 1..=events {
        let record = record(seq, prev_hash);
        let payload = serde_json_canonicalizer::to_string(&record).unwrap();
        let hash = Hash::of(payload.as_bytes());
        bytes += payload.len() as u64;
        sqlx::query("INSERT INTO audit_events (seq, id, payload, hash) VALUES (?, ?, ?, ?)")
            .bind(seq as i64)
            .bind(record.event.id)
            .bind(payload)
            .bind(hash.0.to_vec())
            .execute(&mut store)
            .await
            .unwrap();
        prev_hash = hash;
        if seq % 10_000 == 0 {
            store.execute("COMMIT; BEGIN").await.unwrap();
        }
    }
    store.execute("COMMIT").await.unwrap();
    store.close().await.unwrap();
    bytes
}

fn record(seq: u64, prev_hash: Hash) -> Record {
    let text = |text: &str| Some(text.to_owned());
    let time = Time::from_micros(START + seq * 20);
    let mut event = Event::new(Kind::Request, time);
    event.decision = Some(Decision::Allowed);
    event.gateway = text("edge-1.eu-west");
    event.latency_us = Some(700 + seq % 300);
    event.method = text("POST");
    event.path = text("/kernel/division/7f3a/manifests?dry&trace");
    event.policy = text("rbac");
    event.request_id = Some(uuid::Uuid::now_v7().to_string());
    event.rule = text("kernel-division-write");
    event.status = Some(200);
    event.subject = Some(format!("user-{}@example.com", seq % 5000));
    event.tenant = text("north");
    Record {
        event,
        prev_hash,
        recorded: time,
        seq,
    }
}
