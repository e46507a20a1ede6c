//! Signatures of manifests: each must be valid, and each must match an event.

use std::collections::HashMap;

use postern_signers::Registry;
use uuid::Uuid;

use super::problem::{Code, Problem};
use super::retirement::{RetiredSignature, Retirements};
use super::rows::ManifestRow;
use super::segment::ManifestEvent;
use super::{MAX_LISTED, SKEW, signatures};
use crate::{Hash, Time};

/// The parts of a row of `manifest_signatures` that its event repeats.
#[derive(Debug, Clone)]
struct SignatureRow {
    hash: Option<Hash>,
    signer_id: String,
    signed_at: Option<Time>,
    /// Set if the signer is retired.
    retired: Option<RetiredSignature>,
}

impl SignatureRow {
    fn of(row: &ManifestRow) -> Self {
        let hash = <[u8; 32]>::try_from(row.manifest_hash.as_slice());
        Self {
            hash: hash.ok().map(Hash),
            signer_id: row.signer_id.clone(),
            // A timestamp has exactly one form, as in events.
            signed_at: Time::parse(&row.signed_at).filter(|time| time.to_string() == row.signed_at),
            retired: None,
        }
    }

    /// Whether this is the signature that the event records, made at the event's time, by the same clock. `recorded` does
    /// not serve: it never goes back, so it may differ from that clock. With an arbitrary time, a retired signer's signature
    /// could be backdated.
    fn matches(&self, event: &ManifestEvent) -> bool {
        let is_near = |time: Time| time.micros().abs_diff(event.time.micros()) <= SKEW;
        self.hash == Some(event.hash)
            && event.signer_id.as_ref() == Some(&self.signer_id)
            && self.signed_at.is_some_and(is_near)
    }
}

/// The signatures of manifests, and the events that record them.
#[derive(Debug, Default)]
pub(super) struct Manifests {
    count: u64,
    /// The rows of `manifest_signatures` by id; `None` if the table is not verified.
    rows: Option<HashMap<Uuid, SignatureRow>>,
    events: HashMap<Uuid, ManifestEvent>,
}

impl Manifests {
    /// Declares that all rows are going to be added, even if there are none.
    pub(super) fn expect(&mut self) {
        self.rows.get_or_insert_default();
    }

    /// The number of rows.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Adds a row. Returns what is wrong with its signature.
    pub(super) fn add_row(&mut self, row: &ManifestRow, registry: Option<&Registry>) -> Option<Problem> {
        self.count += 1;
        let id = Uuid::from_slice(&row.id).unwrap_or_default();
        let mut parsed = SignatureRow::of(row);
        let mut found = None;
        match (parsed.hash, parsed.signed_at, registry) {
            (Some(hash), Some(signed_at), Some(registry)) => {
                match signatures::manifest(registry, &row.signer_id, &hash.0, &row.signature, signed_at) {
                    Ok(retired) => parsed.retired = retired,
                    Err((code, detail)) => found = Some(problem(id, code, &detail)),
                }
            }
            (Some(_), Some(_), None) => {}
            _ => {
                let detail = "has no hash of 32 bytes, or no valid time";
                found = Some(problem(id, Code::ManifestSignature, detail));
            }
        }
        self.rows.get_or_insert_default().insert(id, parsed);
        found
    }

    /// Adds a row that was not there yet when all rows were read.
    pub(super) fn add_late_row(&mut self, row: &ManifestRow) {
        let id = Uuid::from_slice(&row.id).unwrap_or_default();
        if let Some(rows) = &mut self.rows
            && self.events.contains_key(&id)
        {
            rows.entry(id).or_insert_with(|| SignatureRow::of(row));
        }
    }

    pub(super) fn add_events(&mut self, events: Vec<ManifestEvent>) {
        self.events
            .extend(events.into_iter().map(|event| (event.id, event)));
    }

    /// The number of events without a row.
    pub(super) fn missing(&self) -> u64 {
        self.missing_ids().count() as u64
    }

    /// A problem for each event without a row.
    pub(super) fn missing_problems(&self) -> Vec<Problem> {
        let detail = "is recorded by an event and missing from the table";
        self.missing_ids()
            .map(|id| problem(id, Code::ManifestMissing, detail))
            .collect()
    }

    fn missing_ids(&self) -> impl Iterator<Item = Uuid> {
        let ids = self.rows.iter().flat_map(|rows| {
            let events = self.events.keys();
            events.filter(|id| !rows.contains_key(*id))
        });
        ids.copied()
    }

    /// A problem for each row without an event, or with an event that does not match.
    pub(super) fn mismatches(&self) -> Vec<Problem> {
        let rows = self.rows.iter().flatten();
        let mismatches = rows.filter_map(|(id, row)| match self.events.get(id) {
            None => Some(problem(*id, Code::ManifestUnrecorded, "is recorded by no event")),
            Some(event) if row.matches(event) => None,
            Some(_) => {
                let detail =
                    "is over another manifest, by another signer or of another time than its event says";
                Some(problem(*id, Code::ManifestDiffers, detail))
            }
        });
        mismatches.take(MAX_LISTED).collect()
    }

    /// Passes on the signatures of retired signers.
    pub(super) fn check_retired(&self, retirements: &mut Retirements) {
        for (id, row) in self.rows.iter().flatten() {
            if let (Some(retired), Some(event)) = (&row.retired, self.events.get(id)) {
                retirements.add_manifest(retired, event.seq, format!("the manifest signature {id}"));
            }
        }
    }
}

fn problem(id: Uuid, code: Code, detail: &str) -> Problem {
    Problem {
        seq: None,
        code,
        detail: format!("the manifest signature {id} {detail}"),
    }
}
