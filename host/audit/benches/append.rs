//! Measures durable events per second: `cargo bench --bench append [-- <postgres URL>]`.
//!
//! Gates send batches, and one event for each request under `audit: required`. The bench runs both, with as many callers as
//! a host has.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark may fail this way"
)]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ed25519_compact::{KeyPair, Seed};
use postern_audit::{
    CheckpointSignature, CheckpointSigner, Decision, Event, Kind, Log, Metrics, Settings, SignFuture, Store,
    Time,
};

struct Key(KeyPair);

impl CheckpointSigner for Key {
    fn sign<'a>(&'a self, body: &'a [u8]) -> SignFuture<'a> {
        let signed = CheckpointSignature {
            signer_id: "bench".into(),
            signature: *self.0.sk.sign(body, None),
            public_key: *self.0.pk,
        };
        Box::pin(async { Ok(signed) })
    }
}

/// About 500 bytes in its canonical form, 700 as a record.
fn event() -> Event {
    let mut event = Event::new(Kind::Request, Time::of(SystemTime::now()));
    event.decision = Some(Decision::Allowed);
    event.gateway = Some("gateway-eu-central-1a".into());
    event.latency_us = Some(1234);
    event.method = Some("POST".into());
    event.path = Some("/v1/tenants/acme/documents/2f1d/versions?expand&fields".into());
    event.policy = Some("rbac".into());
    event.policy_digest = Some(format!("sha256:{}", "ab".repeat(32)));
    event.request_id = Some("5e7c1f0e-6f5b-4b0e-9a53-5d0c3f4d3c11".into());
    event.rule = Some("documents-write".into());
    event.status = Some(201);
    event.subject = Some("user:7b2f9a44@identity.example".into());
    event.tenant = Some("acme".into());
    event
}

async fn run(log: &Log, producers: usize, calls: usize, events: usize) -> (f64, Vec<Duration>) {
    let began = Instant::now();
    let tasks: Vec<_> = (0..producers)
        .map(|_| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut waits = Vec::with_capacity(calls);
                for _ in 0..calls {
                    let batch = (0..events).map(|_| event()).collect();
                    let sent = Instant::now();
                    log.append_all(batch).await.unwrap();
                    waits.push(sent.elapsed());
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.unwrap());
    }
    let rate = (producers * calls * events) as f64 / began.elapsed().as_secs_f64();
    waits.sort();
    (rate, waits)
}

#[tokio::main]
async fn main() {
    let url = std::env::args()
        .skip(1)
        .find(|argument| argument.starts_with("postgres"));
    let directory = tempfile::Builder::new().tempdir_in(".").unwrap();
    let (store, scale) = match url {
        Some(url) => (Store::Postgres(url.into()), 1),
        None => (Store::Sqlite(directory.path().join("audit.db")), 5),
    };
    let mut settings = Settings::new(store, "bench", "postern.example/bench");
    if let Ok(batch) = std::env::var("BATCH") {
        settings.batch = batch.parse().unwrap();
    }
    settings.deadline = Duration::from_secs(10);
    let key = Arc::new(Key(KeyPair::from_seed(Seed::new([1; 32]))));
    let log = Log::open(settings, key, Metrics::default()).await.unwrap();
    for (what, producers, calls, events) in [
        ("one caller, one event a call", 1, 200 * scale, 1),
        ("16 callers, one event a call", 16, 200 * scale, 1),
        ("512 callers, one event a call", 512, 40 * scale, 1),
        ("2048 callers, one event a call", 2048, 20 * scale, 1),
        ("16 callers, 64 events a call", 16, 50 * scale, 64),
        ("32 callers, 256 events a call", 32, 8 * scale, 256),
        ("32 callers, 256 events a call", 32, 8 * scale, 256),
    ] {
        let (rate, waits) = run(&log, producers, calls, events).await;
        let at = |share: usize| waits[(waits.len() - 1) * share / 100];
        println!(
            "{what:32} {rate:9.0} events/s   p50 {:?} p99 {:?}",
            at(50),
            at(99)
        );
    }
    println!("{:?}", log.state());
    log.close().await;
}
