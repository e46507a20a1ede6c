//! The table that counts: a fixed number of slots in the shared state, so that its memory is bounded whatever keys come.
//!
//! The table is set-associative, as a processor's cache is. A key's keyed hash picks a bucket; a bucket is one value of
//! the shared state and holds [`WAYS`] slots of 16 bytes: a fingerprint of the key and the key's theoretical arrival
//! time (GCRA's whole state). One read and one compare-and-set a request, whatever the number of keys.
//!
//! 1. A slot whose arrival time has passed says nothing and may be taken over.
//! 2. When all slots of a bucket are in use, the one whose key is nearest to having its whole quota back is given up;
//!    that key starts anew, and the loss is counted.
//! 3. The hash is keyed by random bytes drawn when the table is made, so that nobody can choose keys that collide.
//! 4. Buckets are made once, while only one VM runs: the shared state has no create-if-absent.

use std::hash::Hasher;

use governor::nanos::Nanos;
use siphasher::sip128::{Hasher128, SipHasher13};

use crate::ports::{Conflict, SharedState, Version};

/// Slots in a bucket.
pub(crate) const WAYS: usize = 8;
/// Buckets in a table; a power of two.
pub(crate) const BUCKETS: u32 = 16_384;
const SLOT: usize = 16;

/// How often a write may be lost to other workers before the request is refused. One of the contenders always wins,
/// so that a loss per worker and request is already rare.
const ATTEMPTS: usize = 1_000;

/// A table in the shared state.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    name: &'static str,
    seed: [u8; 16],
}

/// A key, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Slot {
    bucket: u32,
    fingerprint: u64,
}

/// What came of an update.
pub(crate) enum Updated<T, E> {
    /// It was written; whether another key's slot was given up for it.
    Written { value: T, evicted: bool },
    /// The closure refused and nothing was written.
    Refused(E),
    /// The bucket is missing, or was contended beyond reason.
    Unavailable,
}

impl Table {
    /// Opens the table called `name`, which every key of it begins with, making it if the shared state does not hold it yet. `random` is the key of a new
    /// table's hash.
    pub(crate) fn open(name: &'static str, state: &dyn SharedState, random: [u8; 16]) -> Self {
        let header = name;
        if let Some(seed) = state
            .get(header)
            .and_then(|(bytes, _)| <[u8; 16]>::try_from(bytes).ok())
        {
            return Self { name, seed };
        }
        let table = Self { name, seed: random };
        for bucket in 0..BUCKETS {
            // Created outright: nobody else writes while the table has no header.
            let _ = state.set(&table.key(bucket), &[0; WAYS * SLOT], None);
        }
        let _ = state.set(header, &random, None);
        table
    }

    /// A bucket's name in the shared state. Written out by hand: this is on every limited request's path, where
    /// formatting would cost as much as the rest of the look-up.
    fn key(&self, bucket: u32) -> String {
        let mut key = String::with_capacity(24);
        key.push_str(self.name);
        key.push('.');
        for shift in [12, 8, 4, 0] {
            let digit = char::from_digit(bucket >> shift & 0xf, 16);
            key.extend(digit);
        }
        key
    }

    /// Hashes a key of a `space` of its own, given in parts; each part's length is hashed too, so that parts cannot run into each other.
    pub(crate) fn slot<P: AsRef<[u8]>>(&self, space: &str, parts: impl Iterator<Item = P>) -> Slot {
        let mut hasher = SipHasher13::new_with_key(&self.seed);
        let mut write = |part: &[u8]| {
            hasher.write_u64(part.len() as u64);
            hasher.write(part);
        };
        write(space.as_bytes());
        parts.for_each(|part| write(part.as_ref()));
        let hash = hasher.finish128();
        // Zero marks an empty slot.
        Slot {
            bucket: hash.h1 as u32 & (BUCKETS - 1),
            fingerprint: hash.h2.max(1),
        }
    }

    /// Updates a key's arrival time by `decide`, which is given the present one, in nanoseconds on the shared clock,
    /// if there is any, and may be called again when another worker was quicker. `now` tells which slots are spent.
    pub(crate) fn update<T, E>(
        &self,
        state: &dyn SharedState,
        slot: Slot,
        now: u64,
        decide: impl Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    ) -> Updated<T, E> {
        let key = self.key(slot.bucket);
        for _ in 0..ATTEMPTS {
            let Some((bytes, version)) = state.get(&key) else {
                return Updated::Unavailable;
            };
            let Some(mut bucket) = Bucket::decode(&bytes) else {
                return Updated::Unavailable;
            };
            let held = bucket.find(slot.fingerprint);
            match decide(held.map(Nanos::from)) {
                Err(refused) => return Updated::Refused(refused),
                Ok((value, arrival)) => {
                    let evicted = bucket.put(slot.fingerprint, arrival.as_u64(), now);
                    if write(state, &key, &bucket, version).is_ok() {
                        return Updated::Written { value, evicted };
                    }
                }
            }
        }
        Updated::Unavailable
    }
}

fn write(state: &dyn SharedState, key: &str, bucket: &Bucket, version: Version) -> Result<(), Conflict> {
    state.set(key, &bucket.encode(), Some(version))
}

/// A bucket's slots: fingerprint and arrival time.
struct Bucket([(u64, u64); WAYS]);

impl Bucket {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (slots, rest) = bytes.as_chunks::<SLOT>();
        if slots.len() != WAYS || !rest.is_empty() {
            return None;
        }
        let mut bucket = [(0, 0); WAYS];
        for (slot, bytes) in bucket.iter_mut().zip(slots) {
            let both = u128::from_le_bytes(*bytes);
            *slot = (both as u64, (both >> 64) as u64);
        }
        Some(Self(bucket))
    }

    fn encode(&self) -> [u8; WAYS * SLOT] {
        let mut bytes = [0; WAYS * SLOT];
        let (slots, _) = bytes.as_chunks_mut::<SLOT>();
        for (bytes, (fingerprint, arrival)) in slots.iter_mut().zip(self.0) {
            *bytes = (u128::from(fingerprint) | (u128::from(arrival) << 64)).to_le_bytes();
        }
        bytes
    }

    fn find(&self, fingerprint: u64) -> Option<u64> {
        self.0
            .iter()
            .find(|(held, _)| *held == fingerprint)
            .map(|(_, arrival)| *arrival)
    }

    /// Writes a key's arrival time: over its own, else over the earliest of the others. True if that one still counted.
    fn put(&mut self, fingerprint: u64, arrival: u64, now: u64) -> bool {
        let rank = |(held, due): &(u64, u64)| {
            if *held == fingerprint {
                0
            } else {
                due.saturating_add(1)
            }
        };
        let Some(slot) = self.0.iter_mut().min_by_key(|slot| rank(slot)) else {
            return false;
        };
        let evicted = slot.0 != 0 && slot.0 != fingerprint && slot.1 > now;
        *slot = (fingerprint, arrival);
        evicted
    }
}
