//! The cache of policy decisions, shared by all workers: a fixed number of slots in the shared state.
//!
//! 1. A slot is one value of the shared state: the whole key (a SHA-256), the time of expiry, and the decision.
//! 2. A decision has two candidate slots, which its key selects. It is written to the slot that holds its key
//!    already, else to an expired one, else to the one that expires first, whose decision is evicted.
//! 3. Keys are hashed with random bytes drawn when the cache is created, so that no one can choose requests that
//!    evict the decisions of others.
//! 4. Slots are created once, while only one VM runs: the proxy's shared state has no create-if-absent. They are
//!    written by compare-and-set, and a write that loses is not repeated.
//! 5. The parts of a request that a decision depends on are stored beside the slots, one list for each module and
//!    rule. The list of the latest decision replaces earlier ones.

use std::time::Duration;

use prost::Message;

use super::grant::{Grant, Part};
use super::{Allowance, AppendAction, Change};
use crate::ports::{SharedState, Version};

/// A cache key: a SHA-256, so that different requests do not collide.
pub(crate) type Digest = [u8; 32];

const NAME: &str = "postern.policies";
/// The number of slots, a power of two. With [`MAX_ENTRY`], the cache takes at most 8 MiB.
const SLOTS: u16 = 4_096;
/// The largest entry, in bytes. Larger decisions are not cached.
const MAX_ENTRY: usize = 2 * 1024;

/// The cache, opened.
#[derive(Debug)]
pub(crate) struct DecisionCache {
    seed: [u8; 16],
}

/// What a slot holds.
#[derive(Clone, PartialEq, Message)]
struct Slot {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    /// The time of expiry, in milliseconds on the shared monotonic clock.
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
    /// Opens the cache, and creates it if the shared state does not have it yet. `random` is the seed of a new cache.
    pub(crate) fn open(state: &dyn SharedState, random: [u8; 16]) -> Self {
        let held = state.get(NAME);
        if let Some(seed) = held.and_then(|(bytes, _)| <[u8; 16]>::try_from(bytes).ok()) {
            return Self { seed };
        }
        for slot in 0..SLOTS {
            // Not empty: an empty value could not be distinguished from a missing one.
            let _ = state.set(&slot_name(slot), &Slot::vacant().encode_to_vec(), None);
        }
        let _ = state.set(NAME, &random, None);
        Self { seed: random }
    }

    pub(crate) fn seed(&self) -> &[u8; 16] {
        &self.seed
    }

    /// The parts that the latest cached decision depends on; `None` if no decision was cached yet.
    pub(crate) fn parts(state: &dyn SharedState, module: &str, rule: &str) -> Option<Vec<Part>> {
        let (text, _) = state.get(&parts_name(module, rule))?;
        Part::list(&text)
    }

    /// The decision for `key`, if it has not expired.
    pub(crate) fn get(state: &dyn SharedState, key: &Digest, now: Duration) -> Option<Allowance> {
        let now = millis(now);
        candidate_slots(key).into_iter().find_map(|index| {
            let (bytes, _) = state.get(&slot_name(index))?;
            let slot = Slot::decode(bytes.as_slice()).ok()?;
            (slot.key == key && slot.until > now).then(|| slot.allowance())?
        })
    }

    /// Caches a decision for the time that was granted, and stores the parts for later lookups.
    pub(crate) fn put(
        state: &dyn SharedState,
        (module, rule): (&str, &str),
        key: &Digest,
        now: Duration,
        allowance: &Allowance,
        grant: &Grant,
    ) {
        // The clock does not work, and entries would never expire.
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

/// The slot for a decision: the one that holds its key, else the one that has expired or expires first.
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

/// Unambiguous, because names of modules and rules contain no dot.
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
        let cached = |changes: &[Change]| changes.iter().map(CachedChange::new).collect();
        Self {
            key: key.to_vec(),
            until,
            request: cached(&allowance.request),
            remove: allowance.remove.clone(),
            response: cached(&allowance.response),
        }
    }

    /// `None` if the slot was not written by this code.
    fn allowance(self) -> Option<Allowance> {
        let changes = |cached: Vec<CachedChange>| {
            cached
                .into_iter()
                .map(CachedChange::change)
                .collect::<Option<_>>()
        };
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
