//! A segment of a log: consecutive events, verified without the events before them.
//!
//! So segments can be verified in parallel. [`super::Verifier`] combines them, and compares the `prev_hash` and the time of
//! the first event of a segment with the event before it.

use serde_json::Value;
use uuid::Uuid;

use super::problem::{Code, Problem, Warning};
use super::record::{self, RecordFields};
use super::retirement::RetirementEvent;
use crate::{Decision, Hash, Kind, Record, Time};

/// An event as a store or an export holds it. Nothing in it is trusted.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The sequence number of the row.
    pub seq: u64,
    /// The id of the row, 16 bytes; `None` in an export.
    pub id: Option<&'a [u8]>,
    /// The canonical form of the [`Record`].
    pub payload: &'a [u8],
    /// The claimed digest of the payload: 32 bytes.
    pub hash: &'a [u8],
}

/// What the verifier keeps of a verified event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) id: Uuid,
    pub(crate) hash: Hash,
    pub(crate) recorded: Time,
}

/// Consecutive events.
#[derive(Debug)]
pub struct Segment {
    pub(crate) first: u64,
    /// The `prev_hash` of the first event.
    pub(crate) prev_hash: Hash,
    pub(crate) links: Vec<Link>,
    /// The first problem; nothing behind it was verified.
    pub(crate) problem: Option<Problem>,
    pub(crate) remarks: Vec<Warning>,
    /// The events that record manifest signatures.
    pub(crate) manifests: Vec<ManifestEvent>,
    /// The events that record retirements of signers.
    pub(crate) retirements: Vec<RetirementEvent>,
}

/// An event that records the signature of a manifest.
#[derive(Debug, Clone)]
pub(crate) struct ManifestEvent {
    /// The id of the event and of the row in `manifest_signatures`.
    pub(crate) id: Uuid,
    pub(crate) seq: u64,
    pub(crate) hash: Hash,
    pub(crate) signer_id: Option<String>,
    /// When the manifest was signed, by the clock of the host that requested the signature.
    pub(crate) time: Time,
}

impl Segment {
    /// An empty segment that begins with event `first`.
    #[must_use]
    pub fn new(first: u64) -> Self {
        Self {
            first,
            prev_hash: crate::GENESIS,
            links: Vec::new(),
            problem: None,
            remarks: Vec::new(),
            manifests: Vec::new(),
            retirements: Vec::new(),
        }
    }

    /// The sequence number of the next event.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.first.saturating_add(self.links.len() as u64)
    }

    /// The number of verified events.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// Verifies the next event. Returns false after the first problem, and then ignores further events.
    pub fn push(&mut self, row: &Row<'_>) -> bool {
        if self.problem.is_none() {
            self.problem = self.check(row).err();
        }
        self.problem.is_none()
    }

    /// Ends the segment, whose last event must be `last`.
    pub fn finish(&mut self, last: u64) {
        if self.problem.is_none() && self.next() <= last {
            self.problem = Some(Problem::missing(self.next(), last));
        }
    }

    fn check(&mut self, row: &Row<'_>) -> Result<(), Problem> {
        let seq = self.next();
        check_seq(seq, row.seq)?;
        let hash = Hash::of(row.payload);
        if hash.0 != row.hash {
            return Err(changed(seq, hash, row.hash));
        }
        let fields = record::parse(row.payload).ok_or_else(|| malformed(seq))?;
        if fields.seq != seq {
            return Err(moved(seq, fields.seq));
        }
        if let Some(id) = row.id.filter(|id| *id != fields.id.as_bytes()) {
            return Err(renamed(seq, fields.id, id));
        }
        match self.links.last() {
            None => self.prev_hash = fields.prev_hash,
            Some(before) => check_link(&fields, before)?,
        }
        self.collect(&fields, row.payload);
        self.links.push(Link {
            id: fields.id,
            hash,
            recorded: fields.recorded,
        });
        Ok(())
    }

    /// Collects the events that the report lists, or that later checks need.
    fn collect(&mut self, fields: &RecordFields, payload: &[u8]) {
        if !matches!(
            fields.kind,
            Kind::Clock | Kind::Lost | Kind::ManifestSignature | Kind::Signer
        ) {
            return;
        }
        // It was parsed before: this cannot fail.
        let Ok(record) = serde_json::from_slice::<Record>(payload) else {
            return;
        };
        if fields.kind == Kind::Signer {
            self.retirements.extend(RetirementEvent::of(&record));
            return;
        }
        let detail = |name: &str| record.event.detail.get(name);
        if fields.kind == Kind::ManifestSignature {
            let signed = matches!(record.event.decision, None | Some(Decision::Allowed));
            let hash = detail("manifest_hash")
                .and_then(Value::as_str)
                .and_then(Hash::parse);
            let event = hash.filter(|_| signed).map(|hash| ManifestEvent {
                id: fields.id,
                seq: fields.seq,
                hash,
                signer_id: record.event.signer_id,
                time: record.event.time,
            });
            self.manifests.extend(event);
        } else {
            self.remarks.push(Warning {
                seq: fields.seq,
                kind: fields.kind,
                count: detail("count").and_then(Value::as_u64),
                recorded: fields.recorded,
            });
        }
    }
}

fn check_seq(expected: u64, found: u64) -> Result<(), Problem> {
    match found {
        _ if found == expected => Ok(()),
        _ if found > expected => Err(Problem::missing(expected, found - 1)),
        _ => {
            let detail = format!("event {found} is in the place of event {expected}");
            Err(Problem::at(expected, Code::EventOutOfOrder, detail))
        }
    }
}

/// Checks that an event continues the one before it.
fn check_link(fields: &RecordFields, before: &Link) -> Result<(), Problem> {
    if fields.prev_hash != before.hash {
        return Err(Problem::unlinked(fields.seq, fields.prev_hash, before.hash));
    }
    if fields.recorded < before.recorded {
        return Err(Problem::clock_back(fields.seq, fields.recorded, before.recorded));
    }
    Ok(())
}

fn changed(seq: u64, hash: Hash, claimed: &[u8]) -> Problem {
    let claimed = claimed.try_into().map_or_else(
        |_| "no valid hash".to_owned(),
        |claimed| Hash(claimed).to_string(),
    );
    let detail = format!("the payload of event {seq} has the hash {hash}; the log has {claimed}");
    Problem::at(seq, Code::PayloadChanged, detail)
}

fn malformed(seq: u64) -> Problem {
    let detail = format!("the payload of event {seq} is not the canonical form of a record");
    Problem::at(seq, Code::PayloadMalformed, detail)
}

fn moved(seq: u64, found: u64) -> Problem {
    let detail = format!("the payload of event {seq} is that of event {found}: swapped, moved or renumbered");
    Problem::at(seq, Code::SeqDiffers, detail)
}

fn renamed(seq: u64, id: Uuid, column: &[u8]) -> Problem {
    let column = Uuid::from_slice(column).map_or_else(|_| "no valid id".to_owned(), |id| id.to_string());
    let detail = format!("event {seq} has the id {id} in its payload and {column} in its row");
    Problem::at(seq, Code::IdDiffers, detail)
}
