//! Whether a signature was made before its signer was retired.
//!
//! A retirement is an event of the log, and what stands before it counts, whatever clocks said: a signer that is retired
//! while a clock is ahead would otherwise take back what it signed. Time decides where the log has no such event.
//!
//! Whoever stole a retired signer's key could write an event of its retirement to the end of a log of its own. So what time
//! alone would refuse proves nothing by itself: it is no fault, and the events under it are covered by the checkpoint of
//! another signer, or not at all.
//!
//! Each host of a fleet notices a retirement by itself and writes its own event. The last of them decides: a host that has
//! not read its registry yet may sign after another has.

use std::collections::{BTreeMap, HashMap};

use postern_signers::Registry;

use super::problem::{Code, Problem};
use crate::{Record, Time};

/// What an event says of a signer's retirement.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) seq: u64,
    pub(crate) signer: String,
    /// The host that says so.
    pub(crate) host: String,
    pub(crate) what: What,
}

/// What became of a signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A host took it out of service.
    Retired,
    /// A host that starts finds it retired; that says when only if nobody has said so before.
    Found,
    /// It is back in service.
    Reactivated,
}

impl Told {
    /// What an event of the kind `signer` says.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let event = &record.event;
        let what = match event.reason.as_deref()? {
            "retired" if event.detail.contains_key("found") => What::Found,
            "retired" => What::Retired,
            "reactivated" => What::Reactivated,
            _ => return None,
        };
        Some(Self {
            seq: record.seq,
            signer: event.signer_id.clone()?,
            host: event.gateway.clone().unwrap_or_default(),
            what,
        })
    }
}

/// Something that a retired signer signed, and that counts if it was not retired by then.
#[derive(Debug, Clone)]
pub(crate) struct Doubt {
    pub(crate) signer: String,
    /// When it says that it was made.
    pub(crate) made: Time,
    /// Whether that was after the retirement, as far as time tells.
    pub(crate) late: bool,
}

impl Doubt {
    /// About a signature that is good but for this; none, if the signer is not retired.
    pub(crate) fn about(signer: &str, made: Time, registry: &Registry) -> Option<Self> {
        let known = registry.get(signer)?;
        known.retired_at?;
        Some(Self {
            signer: signer.to_owned(),
            made,
            late: known.is_retired_at(made.system()),
        })
    }
}

/// A doubt, and where what it is about stands.
#[derive(Debug)]
struct Open {
    doubt: Doubt,
    /// A checkpoint's size, or an event's place.
    place: u64,
    code: Code,
    /// What was signed.
    name: String,
    /// The event, if a problem is to name it.
    seq: Option<u64>,
}

/// What the log says of retirements, and what is still to be judged by it.
#[derive(Debug, Default)]
pub(crate) struct Retirements {
    /// By signer: where each host said that it is retired.
    places: HashMap<String, BTreeMap<String, u64>>,
    open: Vec<Open>,
}

impl Retirements {
    /// Takes what events say, in their order.
    pub(crate) fn take(&mut self, told: impl IntoIterator<Item = Told>) {
        for told in told {
            match told.what {
                What::Reactivated => {
                    self.places.remove(&told.signer);
                }
                What::Found if self.places.contains_key(&told.signer) => {}
                What::Found | What::Retired => {
                    let places = self.places.entry(told.signer).or_default();
                    places.entry(told.host).or_insert(told.seq);
                }
            }
        }
    }

    /// Whether a checkpoint over so many events, all of which were taken, is beyond doubt. If not, it is judged at the end.
    pub(crate) fn is_sure(&mut self, doubt: Option<&Doubt>, size: u64, name: &str) -> bool {
        let sure = match doubt {
            None => true,
            Some(doubt) => !doubt.late && self.first(&doubt.signer).is_none_or(|first| size < first),
        };
        if let Some(doubt) = doubt.filter(|_| !sure) {
            self.open.push(Open {
                doubt: doubt.clone(),
                place: size,
                code: Code::CheckpointSignerNotValid,
                name: name.to_owned(),
                seq: Some(size),
            });
        }
        sure
    }

    /// Notes a manifest that a retired signer signed, as the event at a place says.
    pub(crate) fn manifest(&mut self, doubt: &Doubt, place: u64, name: String) {
        self.open.push(Open {
            doubt: doubt.clone(),
            place,
            code: Code::ManifestSignerNotValid,
            name,
            seq: None,
        });
    }

    /// What turns out not to count, now that all events were taken.
    pub(crate) fn problems(&self) -> impl Iterator<Item = Problem> {
        self.open.iter().filter_map(|open| self.problem(open))
    }

    fn problem(&self, open: &Open) -> Option<Problem> {
        let Open { doubt, place, .. } = open;
        let (signer, made) = (&doubt.signer, doubt.made);
        let when = match self.last(signer) {
            // What stands before it is no fault. Nor is it a proof, as long as no other signer's checkpoint covers both.
            Some(retired) if *place < retired => return None,
            Some(retired) => format!("after it was retired by event {retired}"),
            None if doubt.late => format!("at {made}, when the signer was retired"),
            None => return None,
        };
        Some(Problem {
            seq: open.seq,
            code: open.code,
            detail: format!("{} is signed by \"{signer}\" {when}", open.name),
        })
    }

    fn first(&self, signer: &str) -> Option<u64> {
        self.places.get(signer)?.values().min().copied()
    }

    fn last(&self, signer: &str) -> Option<u64> {
        self.places.get(signer)?.values().max().copied()
    }
}
