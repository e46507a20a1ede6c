//! A stretch of a log: events one after another, verified without what stands before them.
//!
//! So stretches can be verified side by side. What they say of the events before them (the first one's `prev_hash`
//! and time) is compared when they are put together, in [`super::Verifier`].

use serde_json::Value;
use uuid::Uuid;

use super::problem::{Code, Problem, Warning};
use super::record::{self, Facts};
use super::retirement::Told;
use crate::{Decision, Hash, Kind, Record, Time};

/// An event as a store or an export has it. Nothing of it is trusted.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Where it stands.
    pub seq: u64,
    /// The id it is found by, 16 bytes; nothing where it is found by its place alone.
    pub id: Option<&'a [u8]>,
    /// The canonical form of its [`Record`].
    pub payload: &'a [u8],
    /// What the digest of the payload is said to be: 32 bytes.
    pub hash: &'a [u8],
}

/// What is kept of a verified event.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    pub(crate) id: Uuid,
    pub(crate) hash: Hash,
    pub(crate) recorded: Time,
}

/// Events one after another.
#[derive(Debug)]
pub struct Segment {
    pub(crate) first: u64,
    /// What the first says was before it.
    pub(crate) prev_hash: Hash,
    pub(crate) links: Vec<Link>,
    /// The first thing that is wrong; nothing was read behind it.
    pub(crate) problem: Option<Problem>,
    pub(crate) remarks: Vec<Warning>,
    /// The manifests that events say were signed.
    pub(crate) manifests: Vec<Manifested>,
    /// What events say of signers' retirement.
    pub(crate) told: Vec<Told>,
}

/// A manifest that an event says was signed.
#[derive(Debug, Clone)]
pub(crate) struct Manifested {
    /// The event's, and the row's.
    pub(crate) id: Uuid,
    /// The event's place.
    pub(crate) seq: u64,
    pub(crate) hash: Hash,
    pub(crate) signer_id: Option<String>,
    /// When it was signed, by the clock of the host that had it signed.
    pub(crate) time: Time,
}

impl Segment {
    /// A stretch that begins with this event.
    #[must_use]
    pub fn new(first: u64) -> Self {
        Self {
            first,
            prev_hash: crate::GENESIS,
            links: Vec::new(),
            problem: None,
            remarks: Vec::new(),
            manifests: Vec::new(),
            told: Vec::new(),
        }
    }

    /// The place of the event that comes next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.first.saturating_add(self.links.len() as u64)
    }

    /// How many events are verified.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.links.len()
    }

    /// Verifies the next event. Returns whether the stretch is whole so far; once it is not, nothing more is read.
    pub fn feed(&mut self, row: &Row<'_>) -> bool {
        if self.problem.is_none() {
            self.problem = self.check(row).err();
        }
        self.problem.is_none()
    }

    /// Ends the stretch: its last event should have been this one.
    pub fn end(&mut self, last: u64) {
        if self.problem.is_none() && self.next() <= last {
            self.problem = Some(Problem::missing(self.next(), last));
        }
    }

    fn check(&mut self, row: &Row<'_>) -> Result<(), Problem> {
        let seq = self.next();
        in_place(seq, row.seq)?;
        let hash = Hash::of(row.payload);
        if hash.0 != row.hash {
            return Err(changed(seq, hash, row.hash));
        }
        let facts = record::read(row.payload).ok_or_else(|| malformed(seq))?;
        if facts.seq != seq {
            return Err(moved(seq, facts.seq));
        }
        if let Some(id) = row.id.filter(|id| *id != facts.id.as_bytes()) {
            return Err(renamed(seq, facts.id, id));
        }
        match self.links.last() {
            None => self.prev_hash = facts.prev_hash,
            Some(before) => follows(&facts, before)?,
        }
        self.note(&facts, row.payload);
        self.links.push(Link {
            id: facts.id,
            hash,
            recorded: facts.recorded,
        });
        Ok(())
    }

    /// Keeps what an auditor, or the rest of the verification, wants to know of it.
    fn note(&mut self, facts: &Facts, payload: &[u8]) {
        if !matches!(
            facts.kind,
            Kind::Clock | Kind::Lost | Kind::ManifestSignature | Kind::Signer
        ) {
            return;
        }
        // It was read before: this cannot fail.
        let Ok(record) = serde_json::from_slice::<Record>(payload) else {
            return;
        };
        if facts.kind == Kind::Signer {
            self.told.extend(Told::of(&record));
            return;
        }
        let detail = |name: &str| record.event.detail.get(name);
        if facts.kind == Kind::ManifestSignature {
            let done = matches!(record.event.decision, None | Some(Decision::Allowed));
            let hash = detail("manifest_hash")
                .and_then(Value::as_str)
                .and_then(Hash::parse);
            let manifested = hash.filter(|_| done).map(|hash| Manifested {
                id: facts.id,
                seq: facts.seq,
                hash,
                signer_id: record.event.signer_id,
                time: record.event.time,
            });
            self.manifests.extend(manifested);
        } else {
            self.remarks.push(Warning {
                seq: facts.seq,
                kind: facts.kind,
                count: detail("count").and_then(Value::as_u64),
                recorded: facts.recorded,
            });
        }
    }
}

fn in_place(expected: u64, found: u64) -> Result<(), Problem> {
    match found {
        _ if found == expected => Ok(()),
        _ if found > expected => Err(Problem::missing(expected, found - 1)),
        _ => {
            let detail = format!("event {found} stands where event {expected} belongs");
            Err(Problem::at(expected, Code::EventOutOfOrder, detail))
        }
    }
}

/// Whether an event continues the one before it.
pub(crate) fn follows(facts: &Facts, before: &Link) -> Result<(), Problem> {
    if facts.prev_hash != before.hash {
        return Err(Problem::unlinked(facts.seq, facts.prev_hash, before.hash));
    }
    if facts.recorded < before.recorded {
        return Err(Problem::clock(facts.seq, facts.recorded, before.recorded));
    }
    Ok(())
}

fn changed(seq: u64, hash: Hash, said: &[u8]) -> Problem {
    let said = said
        .try_into()
        .map_or_else(|_| "none".to_owned(), |said| Hash(said).to_string());
    let detail = format!("the payload of event {seq} has the hash {hash}; the log says {said}");
    Problem::at(seq, Code::PayloadChanged, detail)
}

fn malformed(seq: u64) -> Problem {
    let detail = format!("the payload of event {seq} is not the canonical form of a record");
    Problem::at(seq, Code::PayloadMalformed, detail)
}

fn moved(seq: u64, found: u64) -> Problem {
    let detail = format!("in the place of event {seq} stands event {found}: swapped, moved or renumbered");
    Problem::at(seq, Code::SeqDiffers, detail)
}

fn renamed(seq: u64, id: Uuid, column: &[u8]) -> Problem {
    let column = Uuid::from_slice(column).map_or_else(|_| "none".to_owned(), |id| id.to_string());
    let detail = format!("event {seq} is {id} by its payload and {column} by its row");
    Problem::at(seq, Code::IdDiffers, detail)
}
