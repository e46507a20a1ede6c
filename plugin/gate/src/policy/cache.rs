//! Answers that may be used again, shared by all workers: a fixed number of slots in the shared state.
//!
//! 1. A slot is one value of the shared state: the whole key (a SHA-256), when the answer ends, and the answer.
//! 2. An answer may stand in either of two slots, which its key picks. It takes its own, else a spent one, else the one
//!    that ends first: that answer is asked for anew.
//! 3. Keys are hashed with random bytes drawn when the table is made, so that nobody can aim at another's slots.
//! 4. Slots are made once, while only one VM runs: the shared state has no create-if-absent. They are written by
//!    compare-and-set; who loses leaves it at that.
//! 5. Which parts of a request a policy wants compared stands beside the table, one value for each module and rule.
//!    The last answer's list wins.

use std::time::Duration;

use prost::Message;

use super::grant::{Grant, Part};
use super::{Allowance, AppendAction, Change};
use crate::ports::{SharedState, Version};

/// A key: SHA-256, so that no two requests share one.
pub(crate) type Digest = [u8; 32];

const NAME: &str = "postern.policies";
/// Slots; a power of two. With [`MAX_ENTRY`] they hold eight megabytes at most.
const SLOTS: u16 = 4_096;
/// Larger answers are asked for each time.
const MAX_ENTRY: usize = 2 * 1024;

/// The table, opened.
#[derive(Debug)]
pub(crate) struct DecisionCache {
    seed: [u8; 16],
}

/// What a slot holds.
#[derive(Clone, PartialEq, Message)]
struct Slot {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    /// When it ends, in milliseconds on the shared monotonic clock.
    #[prost(uint64, tag = "2")]
    until: u64,
    #[prost(message, repeated, tag = "3")]
    request: Vec<CachedChange>,
    #[prost(string, repeated, tag = "4")]
    remove: Vec<String>,
    #[prost(message, repeated, tag = "5")]
    response: Vec<CachedChange>,
}

#[derive(Clone, PartialEq, Message)]
struct CachedChange {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
    #[prost(uint32, tag = "3")]
    action: u32,
}

impl DecisionCache {
    /// Opens the table, making it if the shared state does not hold it yet. `random` is the seed of a new one.
    pub(crate) fn open(state: &dyn SharedState, random: [u8; 16]) -> Self {
        let held = state.get(NAME);
        if let Some(seed) = held.and_then(|(bytes, _)| <[u8; 16]>::try_from(bytes).ok()) {
            return Self { seed };
        }
        for slot in 0..SLOTS {
            // Not empty: a value of no bytes could not be told from none.
            let _ = state.set(&slot_name(slot), &Slot::vacant().encode_to_vec(), None);
        }
        let _ = state.set(NAME, &random, None);
        Self { seed: random }
    }

    pub(crate) fn seed(&self) -> &[u8; 16] {
        &self.seed
    }

    /// The parts that the policy wanted compared last; none if it has granted nothing yet.
    pub(crate) fn parts(state: &dyn SharedState, module: &str, rule: &str) -> Option<Vec<Part>> {
        let (text, _) = state.get(&parts_name(module, rule))?;
        Part::list(&text)
    }

    /// The answer under `key`, if it has not ended.
    pub(crate) fn get(state: &dyn SharedState, key: &Digest, now: Duration) -> Option<Allowance> {
        let now = millis(now);
        candidate_slots(key).into_iter().find_map(|index| {
            let (bytes, _) = state.get(&slot_name(index))?;
            let slot = Slot::decode(bytes.as_slice()).ok()?;
            (slot.key == key && slot.until > now).then(|| slot.allowance())?
        })
    }

    /// Keeps an answer for the time it was granted for, and the parts for requests to come.
    pub(crate) fn put(
        state: &dyn SharedState,
        (module, rule): (&str, &str),
        key: &Digest,
        now: Duration,
        allowance: &Allowance,
        grant: &Grant,
    ) {
        // A clock that stands still would keep answers for good.
        if now.is_zero() {
            return;
        }
        let slot = Slot::new(key, millis(now.saturating_add(grant.ttl)), allowance).encode_to_vec();
        if slot.len() > MAX_ENTRY {
            return;
        }
        let parts = Part::join(&grant.parts);
        let name = parts_name(module, rule);
        let known = state.get(&name).is_some_and(|(held, _)| held == parts.as_bytes());
        if !known {
            let _ = state.set(&name, parts.as_bytes(), None);
        }
        if let Some((index, version)) = choose_slot(state, key, millis(now)) {
            let _ = state.set(&slot_name(index), &slot, Some(version));
        }
    }
}

/// The place for an answer: where it stands already, else the one that has ended or ends first.
fn choose_slot(state: &dyn SharedState, key: &Digest, now: u64) -> Option<(u16, Version)> {
    let ranked = candidate_slots(key).into_iter().filter_map(|index| {
        let (bytes, version) = state.get(&slot_name(index))?;
        let slot = Slot::decode(bytes.as_slice()).unwrap_or_else(|_| Slot::vacant());
        let rank = match slot.until {
            _ if slot.key == key => 0,
            until if until <= now => 1,
            until => until,
        };
        Some((rank, index, version))
    });
    ranked
        .min_by_key(|(rank, ..)| *rank)
        .map(|(_, index, version)| (index, version))
}

fn candidate_slots(key: &Digest) -> [u16; 2] {
    let [a, b, c, d, ..] = *key;
    [[a, b], [c, d]].map(|bytes| u16::from_le_bytes(bytes) & (SLOTS - 1))
}

fn slot_name(slot: u16) -> String {
    format!("{NAME}.{slot:03x}")
}

/// Neither a module's name nor a rule's holds a dot.
fn parts_name(module: &str, rule: &str) -> String {
    format!("{NAME}.parts.{module}.{rule}")
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Slot {
    fn vacant() -> Self {
        Self {
            key: vec![0],
            ..Self::default()
        }
    }

    fn new(key: &Digest, until: u64, allowance: &Allowance) -> Self {
        let kept = |changes: &[Change]| changes.iter().map(CachedChange::new).collect();
        Self {
            key: key.to_vec(),
            until,
            request: kept(&allowance.request),
            remove: allowance.remove.clone(),
            response: kept(&allowance.response),
        }
    }

    /// `None` for what this code did not write.
    fn allowance(self) -> Option<Allowance> {
        let changes =
            |kept: Vec<CachedChange>| kept.into_iter().map(CachedChange::change).collect::<Option<_>>();
        Some(Allowance {
            request: changes(self.request)?,
            remove: self.remove,
            response: changes(self.response)?,
            grant: None,
        })
    }
}

const ACTIONS: [AppendAction; 4] = [
    AppendAction::Append,
    AppendAction::AddIfAbsent,
    AppendAction::Overwrite,
    AppendAction::OverwriteIfExists,
];

impl CachedChange {
    fn new(change: &Change) -> Self {
        let action = ACTIONS.iter().position(|action| *action == change.action);
        Self {
            name: change.name.clone(),
            value: change.value.clone(),
            action: action.unwrap_or_default() as u32,
        }
    }

    fn change(self) -> Option<Change> {
        Some(Change {
            name: self.name,
            value: self.value,
            action: *ACTIONS.get(self.action as usize)?,
        })
    }
}

#[cfg(test)]
mod tests;
