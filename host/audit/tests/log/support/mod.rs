//! Shared by the tests of the log: a signer, and a reader of stores that is independent of the crate.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ed25519_compact::{KeyPair, Seed};
use postern_audit::{
    CheckpointSignature, CheckpointSigner, Event, Hash, Kind, Log, ManifestSignature, Metrics, Settings,
    SignFuture, Store, Time,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use uuid::Uuid;

pub(crate) mod writer;

pub(crate) const ORIGIN: &str = "postern.example/audit";

/// Signs with a test key, or fails.
pub(crate) struct Signer {
    pair: KeyPair,
    pub(crate) broken: AtomicBool,
    pub(crate) requests: AtomicUsize,
}

impl Signer {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            pair: KeyPair::from_seed(Seed::new([9; 32])),
            broken: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
        })
    }

    pub(crate) fn public_key(&self) -> [u8; 32] {
        *self.pair.pk
    }
}

impl CheckpointSigner for Signer {
    fn sign<'a>(&'a self, body: &'a [u8]) -> SignFuture<'a> {
        self.requests.fetch_add(1, Ordering::AcqRel);
        let result = if self.broken.load(Ordering::Acquire) {
            Err("the KMS is unavailable".to_owned())
        } else {
            Ok(CheckpointSignature {
                signer_id: "kernel-2026".into(),
                signature: *self.pair.sk.sign(body, None),
                public_key: self.public_key(),
            })
        };
        Box::pin(async { result })
    }
}

pub(crate) fn sqlite(path: &Path) -> Settings {
    Settings::new(Store::Sqlite(path.to_owned()), "host-1", ORIGIN)
}

pub(crate) fn postgres(url: &str) -> Settings {
    Settings::new(Store::Postgres(url.to_owned().into()), "host-1", ORIGIN)
}

pub(crate) async fn open(settings: Settings) -> Log {
    Log::open(settings, Signer::new(), Metrics::default())
        .await
        .unwrap()
}

/// The signature of a manifest, and its event.
pub(crate) fn manifest_signature() -> (ManifestSignature, Event) {
    let mut event = event("/sign/manifest");
    event.kind = Kind::ManifestSignature;
    let signature = ManifestSignature {
        manifest_hash: Hash::of(b"{}"),
        signature: [5; 64],
        signer_id: "kernel-2026".into(),
        signed_at: Time::from_micros(1),
    };
    (signature, event)
}

pub(crate) fn event(path: impl Into<String>) -> Event {
    let mut event = Event::new(Kind::Request, Time::from_micros(1_767_225_600_000_000));
    event.path = Some(path.into());
    event.subject = Some("user:7".into());
    event.rule = Some("documents".into());
    event
}

/// An event in a store.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: Uuid,
    pub(crate) payload: Value,
}

impl Row {
    pub(crate) fn text(&self, field: &str) -> &str {
        self.payload[field].as_str().unwrap_or_default()
    }
}

type Raw = (i64, Uuid, String, Vec<u8>);
const ALL: &str = "SELECT seq, id, payload, hash FROM audit_events ORDER BY seq";

/// All events of a SQLite store, after checking that they are one complete chain without duplicates.
pub(crate) async fn chain(path: &Path) -> Vec<Row> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(10));
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let rows: Vec<Raw> = sqlx::query_as(ALL).fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    check_chain(rows)
}

/// The same for a Postgres store.
pub(crate) async fn postgres_chain(url: &str) -> Vec<Row> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let rows: Vec<Raw> = sqlx::query_as(ALL).fetch_all(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    check_chain(rows)
}

fn check_chain(rows: Vec<Raw>) -> Vec<Row> {
    let mut previous = "0".repeat(64);
    let mut ids = BTreeSet::new();
    let mut recorded = String::new();
    let check = |(at, (seq, id, payload, hash)): (usize, Raw)| {
        assert_eq!(seq, i64::try_from(at).unwrap() + 1, "numbers without a gap");
        assert_eq!(Sha256::digest(payload.as_bytes()).to_vec(), hash, "event {seq}");
        let value: Value = serde_json::from_str(&payload).unwrap();
        assert_eq!(value["prev_hash"], previous.as_str(), "event {seq}");
        assert_eq!(value["seq"], seq);
        assert_eq!(value["id"], id.to_string());
        assert!(value["recorded"].as_str().unwrap() >= recorded.as_str());
        assert_eq!(serde_json_canonicalizer::to_string(&value).unwrap(), payload);
        assert!(ids.insert(id), "event {seq} is a duplicate");
        previous = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        recorded = value["recorded"].as_str().unwrap().to_owned();
        Row { id, payload: value }
    };
    rows.into_iter().enumerate().map(check).collect()
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not within 15 s");
}
