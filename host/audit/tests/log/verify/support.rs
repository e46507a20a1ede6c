//! Builds logs to tamper with, and writes them to a store.

use std::path::PathBuf;

use ed25519_compact::{KeyPair, Seed};
use postern_audit::export::{Header, Range, ReplayError, export, replay};
use postern_audit::read::Reader;
use postern_audit::verify::{Code, Report, TrustedReferences, verify};
use postern_audit::{Checkpoint, Decision, Event, GENESIS, Hash, Kind, Note, Record, Signature, Time};
use postern_signers::{Registry, add, retire};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection as _, Executor as _};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

pub(crate) const ORIGIN: &str = "postern.example/audit";
const SCHEMA: &str = include_str!("../../../migrations/sqlite/0001_audit.sql");
const START: u64 = 1_767_225_600_000_000;

/// A row of `audit_events`.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) seq: i64,
    pub(crate) id: Vec<u8>,
    pub(crate) payload: String,
    pub(crate) hash: Vec<u8>,
}

impl Row {
    pub(crate) fn record(&self) -> Record {
        serde_json::from_str(&self.payload).unwrap()
    }

    /// A row that is valid by itself.
    pub(crate) fn of(record: &Record) -> Self {
        let payload = serde_json_canonicalizer::to_string(record).unwrap();
        Self {
            seq: record.seq as i64,
            id: record.event.id.as_bytes().to_vec(),
            hash: Hash::of(payload.as_bytes()).0.to_vec(),
            payload,
        }
    }

    /// Updates the hash to that of the payload.
    pub(crate) fn rehash(&mut self) {
        self.hash = Hash::of(self.payload.as_bytes()).0.to_vec();
    }
}

/// A row of `manifest_signatures`.
#[derive(Debug, Clone)]
pub(crate) struct Manifest {
    pub(crate) id: Uuid,
    pub(crate) hash: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) signer: String,
    pub(crate) signed_at: String,
}

/// The content of a store.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) rows: Vec<Row>,
    pub(crate) notes: Vec<(i64, String)>,
    pub(crate) manifests: Vec<Manifest>,
    pub(crate) schema: String,
}

/// The time of an event, and of the checkpoint over it.
pub(crate) fn at(seq: u64) -> Time {
    Time::from_micros(START + seq * 1_000_000)
}

pub(crate) fn key(number: u8) -> KeyPair {
    KeyPair::from_seed(Seed::new([number; 32]))
}

/// `kernel` is active; `former` was until event 10.
pub(crate) fn registry() -> Registry {
    let text = add("", "kernel", &key(1).pk, None, None).unwrap();
    let text = add(&text, "former", &key(2).pk, None, None).unwrap();
    Registry::parse(&retire(&text, "former", at(11).system()).unwrap()).unwrap()
}

/// A signed checkpoint.
pub(crate) fn note(checkpoint: &Checkpoint, name: &str, key: &KeyPair) -> Note {
    let signature = *key.sk.sign(checkpoint.body(), None);
    Note::new(checkpoint.clone(), vec![Signature::new(name, &key.pk, signature)]).unwrap()
}

impl Log {
    /// A log with this many events, and a checkpoint after every tenth.
    pub(crate) fn new(events: u64) -> Self {
        let mut log = Self {
            rows: Vec::new(),
            notes: Vec::new(),
            manifests: Vec::new(),
            schema: SCHEMA.to_owned(),
        };
        for seq in 1..=events {
            log.push(event(seq));
            if seq.is_multiple_of(10) {
                let checkpoint = log.checkpoint(seq);
                log.put(&note(&checkpoint, "kernel", &key(1)));
            }
        }
        log
    }

    /// Appends an event as the writer does.
    pub(crate) fn push(&mut self, event: Event) {
        let prev_hash = self
            .rows
            .last()
            .map_or(GENESIS, |row| Hash::of(row.payload.as_bytes()));
        let seq = self.rows.len() as u64 + 1;
        self.rows.push(Row::of(&Record {
            event,
            prev_hash,
            recorded: at(seq),
            seq,
        }));
    }

    /// The checkpoint over `size` events.
    pub(crate) fn checkpoint(&self, size: u64) -> Checkpoint {
        Checkpoint {
            origin: ORIGIN.to_owned(),
            size,
            hash: Hash(self.rows[size as usize - 1].hash.clone().try_into().unwrap()),
            time: at(size),
        }
    }

    /// Inserts or replaces a checkpoint.
    pub(crate) fn put(&mut self, note: &Note) {
        let size = note.checkpoint.size as i64;
        self.notes.retain(|(other, _)| *other != size);
        self.notes.push((size, note.to_string()));
        self.notes.sort();
    }

    /// The content of the external checkpoint file.
    pub(crate) fn external_file(&self) -> String {
        self.notes.iter().map(|(_, note)| format!("{note}\n")).collect()
    }

    pub(crate) fn row(&mut self, seq: usize) -> &mut Row {
        &mut self.rows[seq - 1]
    }

    /// Changes a record, and updates its row to be valid by itself.
    pub(crate) fn edit(&mut self, seq: usize, change: impl FnOnce(&mut Record)) {
        let mut record = self.row(seq).record();
        change(&mut record);
        *self.row(seq) = Row::of(&record);
    }

    /// Recomputes all numbers, links and hashes from event `seq` on, as an attacker with the database but no key can.
    pub(crate) fn rewrite_from(&mut self, seq: usize) {
        for place in seq..=self.rows.len() {
            let before = if place == 1 {
                None
            } else {
                Some(self.rows[place - 2].hash.clone())
            };
            let prev_hash = before.map_or(GENESIS, |hash| Hash(hash.try_into().unwrap()));
            self.edit(place, |record| {
                record.seq = place as u64;
                record.prev_hash = prev_hash;
            });
        }
    }

    /// Renumbers the `seq` columns.
    pub(crate) fn renumber(&mut self) {
        for (place, row) in self.rows.iter_mut().enumerate() {
            row.seq = place as i64 + 1;
        }
    }

    /// Writes the log to a SQLite file.
    pub(crate) fn store(&self) -> Stored {
        let folder = tempfile::tempdir().unwrap();
        let stored = Stored {
            path: folder.path().join("audit.sqlite"),
            runtime: Runtime::new().unwrap(),
            _folder: folder,
        };
        stored.runtime.block_on(self.write(&stored.path));
        stored
    }

    async fn write(&self, path: &std::path::Path) {
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
        let mut store = SqliteConnection::connect_with(&options).await.unwrap();
        store
            .execute(sqlx::AssertSqlSafe(self.schema.clone()))
            .await
            .unwrap();
        store.execute("PRAGMA synchronous = OFF; BEGIN").await.unwrap();
        for row in &self.rows {
            let insert = sqlx::query("INSERT INTO audit_events (seq, id, payload, hash) VALUES (?, ?, ?, ?)");
            let insert = insert
                .bind(row.seq)
                .bind(row.id.clone())
                .bind(row.payload.clone());
            insert.bind(row.hash.clone()).execute(&mut store).await.unwrap();
        }
        for (size, note) in &self.notes {
            let insert = sqlx::query("INSERT INTO audit_checkpoints (size, note) VALUES (?, ?)");
            insert.bind(size).bind(note).execute(&mut store).await.unwrap();
        }
        for manifest in &self.manifests {
            let insert = sqlx::query(
                "INSERT INTO manifest_signatures (id, manifest_hash, signature, signer_id, signed_at) \
                 VALUES (?, ?, ?, ?, ?)",
            );
            let insert = insert
                .bind(manifest.id)
                .bind(manifest.hash.clone())
                .bind(manifest.signature.clone());
            let insert = insert
                .bind(manifest.signer.clone())
                .bind(manifest.signed_at.clone());
            insert.execute(&mut store).await.unwrap();
        }
        store.execute("COMMIT").await.unwrap();
        store.close().await.unwrap();
    }

    /// Writes and verifies the log.
    pub(crate) fn verify(&self, references: TrustedReferences) -> Report {
        self.store().verify(references)
    }
}

/// A log in a SQLite file.
pub(crate) struct Stored {
    pub(crate) path: PathBuf,
    pub(crate) runtime: Runtime,
    _folder: TempDir,
}

impl Stored {
    pub(crate) fn reader(&self) -> Reader {
        let url = format!("sqlite:{}", self.path.display());
        self.runtime.block_on(Reader::open(&url, 2)).unwrap()
    }

    pub(crate) fn verify(&self, references: TrustedReferences) -> Report {
        let reader = self.reader();
        self.runtime
            .block_on(verify(&reader, references, 2, |_| {}))
            .unwrap()
    }

    pub(crate) fn export(&self, range: Range) -> String {
        let mut out = Vec::new();
        let reader = self.reader();
        let created = Time::parse("2027-01-01T00:00:00Z").unwrap();
        self.runtime
            .block_on(export(&reader, range, &mut out, created, |_| {}))
            .unwrap();
        String::from_utf8(out).unwrap()
    }
}

pub(crate) const ALL: Range = Range { first: 1, last: None };

pub(crate) fn replayed(
    export: &[u8],
    references: TrustedReferences,
) -> Result<(Header, Report), ReplayError> {
    replay(export, references, |_| {})
}

/// The event and code of the first problem.
pub(crate) fn found(report: &Report) -> Option<(u64, Code)> {
    report
        .first_problem()
        .map(|problem| (problem.seq.unwrap_or(0), problem.code))
}

pub(crate) fn signed() -> TrustedReferences {
    TrustedReferences::none().signers(registry())
}

fn event(seq: u64) -> Event {
    let text = |text: &str| Some(text.to_owned());
    let mut event = Event::new(Kind::Request, at(seq));
    event.decision = Some(if seq.is_multiple_of(3) {
        Decision::Denied
    } else {
        Decision::Allowed
    });
    event.gateway = text("edge-1");
    event.latency_us = Some(800);
    event.method = text("POST");
    event.path = text("/kernel/sign?dry");
    event.request_id = Some(format!("request-{seq}"));
    event.rule = text("sign");
    event.status = Some(if seq.is_multiple_of(3) { 403 } else { 200 });
    event.subject = text(if seq.is_multiple_of(2) { "ann" } else { "zoë" });
    event.tenant = text("north");
    event
}
