//! Audit logs written by the host's writer, for commands that read them.

use std::ops::RangeInclusive;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use ed25519_compact::{KeyPair, Seed};
use postern_audit::{
    CheckpointSignature, CheckpointSigner, Decision, Event, Hash, Kind, Log, ManifestSignature, Metrics,
    Settings, SignFuture, Store, Time,
};
use tokio::runtime::Runtime;

use super::{Run, WorkDir};

pub(crate) const STORE: [&str; 2] = ["--store", "sqlite:audit.sqlite"];

pub(crate) struct KernelSigner;

pub(crate) fn key(number: u8) -> KeyPair {
    KeyPair::from_seed(Seed::new([number; 32]))
}

impl CheckpointSigner for KernelSigner {
    fn sign<'a>(&'a self, body: &'a [u8]) -> SignFuture<'a> {
        let signed = CheckpointSignature {
            signer_id: "kernel".to_owned(),
            signature: *key(1).sk.sign(body, None),
            public_key: *key(1).pk,
        };
        Box::pin(async { Ok(signed) })
    }
}

struct UnavailableSigner;

impl CheckpointSigner for UnavailableSigner {
    fn sign<'a>(&'a self, _: &'a [u8]) -> SignFuture<'a> {
        Box::pin(async { Err("the KMS is unreachable".to_owned()) })
    }
}

pub(crate) fn event(number: u64) -> Event {
    let mut event = Event::new(Kind::Request, Time::from_micros(1_767_225_600_000_000 + number));
    event.decision = Some(if number.is_multiple_of(5) {
        Decision::Denied
    } else {
        Decision::Allowed
    });
    event.gateway = Some("edge-1".to_owned());
    event.subject = Some(
        if number.is_multiple_of(2) {
            "ann"
        } else {
            "bob\u{1b}[2J\n"
        }
        .to_owned(),
    );
    event.rule = Some("sign".to_owned());
    event.request_id = Some(format!("request-{number}"));
    event
}

/// Writes these events, and a checkpoint over all events to the store and the file `checkpoints`.
pub(crate) fn write(dir: &WorkDir, numbers: RangeInclusive<u64>) {
    write_signed(dir, numbers, Arc::new(KernelSigner));
}

/// Writes these events without a checkpoint: the signer is unavailable.
pub(crate) fn write_without_checkpoint(dir: &WorkDir, numbers: RangeInclusive<u64>) {
    write_signed(dir, numbers, Arc::new(UnavailableSigner));
}

/// Executes a statement on the store, outside the writer.
pub(crate) fn sql(path: &Path, statement: &str) {
    let done = Command::new("python3")
        .args([
            "-c",
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()",
        ])
        .arg(path)
        .arg(statement)
        .status();
    assert!(done.unwrap().success(), "{statement}");
}

/// Records the signature of a manifest.
pub(crate) fn sign_manifest(dir: &WorkDir, manifest: &str) {
    Runtime::new().unwrap().block_on(async {
        let log = Log::open(settings(dir), Arc::new(KernelSigner), Metrics::default())
            .await
            .unwrap();
        let now = Time::of(SystemTime::now());
        let manifest_hash = Hash::of(manifest.as_bytes());
        let signature = ManifestSignature {
            manifest_hash,
            signature: *key(1).sk.sign(manifest_hash.0, None),
            signer_id: "kernel".to_owned(),
            signed_at: now,
        };
        let mut event = Event::new(Kind::ManifestSignature, now);
        event.decision = Some(Decision::Allowed);
        event.signer_id = Some("kernel".to_owned());
        event
            .detail
            .insert("manifest_hash".to_owned(), manifest_hash.to_string().into());
        log.record_manifest(signature, event).await.unwrap();
        log.close().await;
    });
}

fn settings(dir: &WorkDir) -> Settings {
    let store = Store::Sqlite(dir.path("audit.sqlite"));
    let mut settings = Settings::new(store, "host-1", "postern.example/audit");
    settings.checkpoints.file = Some(dir.path("checkpoints"));
    settings
}

fn write_signed(dir: &WorkDir, numbers: RangeInclusive<u64>, signer: Arc<dyn CheckpointSigner>) {
    Runtime::new().unwrap().block_on(async {
        let log = Log::open(settings(dir), signer, Metrics::default())
            .await
            .unwrap();
        for number in numbers {
            log.append(event(number)).await.unwrap();
        }
        log.close().await;
    });
}

pub(crate) fn dir() -> WorkDir {
    let dir = WorkDir::new();
    write(&dir, 1..=30);
    for (file, number) in [("signers.toml", 1), ("others.toml", 2)] {
        dir.file(
            file,
            &postern_signers::add("", "kernel", &key(number).pk, None, None).unwrap(),
        );
    }
    dir
}

pub(crate) fn audit(dir: &WorkDir, command: &str, args: &[&str]) -> Run {
    dir.run(&[&["audit", command][..], &STORE, args].concat())
}

/// A live log.
pub(crate) struct OpenLog {
    runtime: Runtime,
    log: Log,
}

impl OpenLog {
    /// Opens the log and writes these events, without a checkpoint.
    pub(crate) fn open(dir: &WorkDir, numbers: RangeInclusive<u64>) -> Self {
        let runtime = Runtime::new().unwrap();
        let settings = Settings::new(
            Store::Sqlite(dir.path("audit.sqlite")),
            "host-1",
            "postern.example/audit",
        );
        let log = runtime.block_on(async {
            let log = Log::open(settings, Arc::new(UnavailableSigner), Metrics::default())
                .await
                .unwrap();
            for number in numbers {
                log.append(event(number)).await.unwrap();
            }
            log
        });
        Self { runtime, log }
    }

    pub(crate) fn close(self) {
        self.runtime.block_on(self.log.close());
    }
}
