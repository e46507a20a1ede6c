//! Whether a signature was made before its signer was retired.
//!
//! A retirement is an event of the log. What precedes it in the log is accepted, whatever the clocks said: otherwise,
//! retiring a signer whose host's clock was ahead would invalidate what it had signed. Timestamps decide only where the log
//! has no such event.
//!
//! With a stolen key of a retired signer, an event of its retirement could be appended to the end of a forged log. So a
//! signature that timestamps alone would reject proves nothing by itself: it is not a problem, but the events under it are
//! covered only by the checkpoint of another signer.
//!
//! Each host of a fleet notices a retirement by itself and records its own event. The last of them decides: a host that
//! has not reloaded its registry yet may sign after another host has.

use std::collections::{BTreeMap, HashMap};

use postern_signers::Registry;

use super::problem::{Code, Problem};
use crate::{Record, Time};

/// An event that records a change of a signer's status.
#[derive(Debug, Clone)]
pub(crate) struct RetirementEvent {
    seq: u64,
    signer: String,
    /// The host that recorded it.
    host: String,
    change: StatusChange,
}

/// A change of a signer's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StatusChange {
    /// A host stopped using the signer.
    Retired,
    /// A starting host found the signer retired. This dates the retirement only if no earlier event does.
    FoundRetired,
    /// The signer is in use again.
    Reactivated,
}

impl RetirementEvent {
    /// Parses an event of the kind `signer`.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let event = &record.event;
        let change = match event.reason.as_deref()? {
            "retired" if event.detail.contains_key("found") => StatusChange::FoundRetired,
            "retired" => StatusChange::Retired,
            "reactivated" => StatusChange::Reactivated,
            _ => return None,
        };
        Some(Self {
            seq: record.seq,
            signer: event.signer_id.clone()?,
            host: event.gateway.clone().unwrap_or_default(),
            change,
        })
    }
}

/// A valid signature of a signer that is retired now. It is accepted if it was made before the retirement.
#[derive(Debug, Clone)]
pub(crate) struct RetiredSignature {
    signer: String,
    /// When it was made, by its own timestamp.
    made: Time,
    /// Whether that is after the retirement, by timestamps.
    late: bool,
}

impl RetiredSignature {
    /// Returns `None` if the signer is not retired.
    pub(crate) fn of(signer: &str, made: Time, registry: &Registry) -> Option<Self> {
        let entry = registry.get(signer)?;
        entry.retired_at?;
        Some(Self {
            signer: signer.to_owned(),
            made,
            late: entry.is_retired_at(made.system()),
        })
    }
}

/// A signature that is judged once all events are known.
#[derive(Debug)]
struct PendingSignature {
    signature: RetiredSignature,
    /// The size of the checkpoint, or the sequence number of the event that records the manifest signature.
    position: u64,
    code: Code,
    /// What was signed.
    name: String,
    /// The event that a problem names.
    seq: Option<u64>,
}

/// The retirements that the log records, and the signatures that are judged by them.
#[derive(Debug, Default)]
pub(crate) struct Retirements {
    /// By signer and host: the event with which the host recorded the retirement.
    events: HashMap<String, BTreeMap<String, u64>>,
    pending: Vec<PendingSignature>,
}

impl Retirements {
    /// Adds events, in their order.
    pub(crate) fn add_events(&mut self, events: impl IntoIterator<Item = RetirementEvent>) {
        for event in events {
            match event.change {
                StatusChange::Reactivated => {
                    self.events.remove(&event.signer);
                }
                StatusChange::FoundRetired if self.events.contains_key(&event.signer) => {}
                StatusChange::FoundRetired | StatusChange::Retired => {
                    let hosts = self.events.entry(event.signer).or_default();
                    hosts.entry(event.host).or_insert(event.seq);
                }
            }
        }
    }

    /// Whether the signature of a checkpoint over `size` events, all of which were added, is accepted already. Otherwise it
    /// is judged at the end.
    pub(crate) fn accepts(&mut self, signature: Option<&RetiredSignature>, size: u64, name: &str) -> bool {
        let Some(signature) = signature else {
            return true;
        };
        let first = self.first_retirement(&signature.signer);
        let accepted = !signature.late && first.is_none_or(|first| size < first);
        if !accepted {
            self.pending.push(PendingSignature {
                signature: signature.clone(),
                position: size,
                code: Code::CheckpointSignerNotValid,
                name: name.to_owned(),
                seq: Some(size),
            });
        }
        accepted
    }

    /// Adds the signature of a manifest, recorded by the event `position`.
    pub(crate) fn add_manifest(&mut self, signature: &RetiredSignature, position: u64, name: String) {
        self.pending.push(PendingSignature {
            signature: signature.clone(),
            position,
            code: Code::ManifestSignerNotValid,
            name,
            seq: None,
        });
    }

    /// The signatures that are rejected after all events were added.
    pub(crate) fn problems(&self) -> impl Iterator<Item = Problem> {
        self.pending.iter().filter_map(|pending| self.judge(pending))
    }

    fn judge(&self, pending: &PendingSignature) -> Option<Problem> {
        let (signer, made) = (&pending.signature.signer, pending.signature.made);
        let when = match self.last_retirement(signer) {
            // No problem, but no proof either, until another signer's checkpoint covers both.
            Some(retired) if pending.position < retired => return None,
            Some(retired) => format!("after it was retired by event {retired}"),
            None if pending.signature.late => format!("at {made}, when the signer was retired"),
            None => return None,
        };
        Some(Problem {
            seq: pending.seq,
            code: pending.code,
            detail: format!("{} is signed by \"{signer}\" {when}", pending.name),
        })
    }

    fn first_retirement(&self, signer: &str) -> Option<u64> {
        self.events.get(signer)?.values().min().copied()
    }

    fn last_retirement(&self, signer: &str) -> Option<u64> {
        self.events.get(signer)?.values().max().copied()
    }
}
