//! Hash tables in the shared state: a number for each of many keys, in bounded memory whatever the keys.
//!
//! A table is set-associative, like a processor's cache. The keyed hash of a key selects a bucket. A bucket is one
//! value of the shared state, with a bounded number of slots of 16 bytes: a fingerprint of the key, and a number. A
//! request takes one read and one compare-and-set, whatever the number of keys.
//!
//! 1. Each limit and each signing key has its own table, so that filling one does not affect others.
//! 2. A bucket is created when it is first written, and contains only slots in use. So a table that is hardly used
//!    takes little memory. The number of slots per bucket may change without losing entries; the number of buckets
//!    may not.
//! 3. The hash is keyed by random bytes, drawn when the first table is opened, so that no one can choose keys that
//!    collide. Each part of a key is hashed with its length, so that different parts have different hashes.
//! 4. The user of a table decides what happens if a bucket is full: a limit evicts a key, the nonce store refuses the
//!    request.

use std::fmt::Write as _;
use std::hash::Hasher;

use siphasher::sip128::{Hasher128, SipHasher13};

use crate::ports::{Conflict, SharedState, Version};

/// The size of a slot in bytes.
const SLOT: usize = 16;

/// The name of the hash seed in the shared state.
const SEED: &str = "postern.seed";

/// How often a write may conflict with other workers before the request is refused. One of the contenders always
/// succeeds, so that even one conflict per worker and request is rare.
pub(crate) const ATTEMPTS: usize = 1_000;

/// The secret key of the hash, shared by all users of the shared state.
pub(crate) type Seed = [u8; 16];

/// The seed in the shared state, which is set to `random` if there is none yet. `None` if the shared state cannot
/// store it.
pub(crate) fn seed(state: &dyn SharedState, random: Seed) -> Option<Seed> {
    let stored = || state.get(SEED).and_then(|(bytes, _)| Seed::try_from(bytes).ok());
    if let Some(seed) = stored() {
        return Some(seed);
    }
    // The first worker creates it; the others read it.
    let _ = state.create(SEED, &random);
    stored()
}

/// A table in the shared state.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    prefix: String,
    seed: Seed,
    buckets: u32,
    slots_per_bucket: usize,
}

/// The location of a key in a table: the name of its bucket, and its fingerprint there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Location {
    bucket: String,
    fingerprint: u64,
}

/// A bucket, with the version that was read.
#[derive(Debug)]
pub(crate) struct Bucket {
    slots: Vec<Slot>,
    version: Option<Version>,
}

/// The fingerprint of a key, which is never zero, and its number.
pub(crate) type Slot = (u64, u64);

/// The value in the shared state is not a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreadable;

impl Table {
    /// The table named `kind` and `name`, for `keys` keys in `buckets` buckets. The number of buckets must not
    /// change.
    pub(crate) fn new(kind: &str, name: &[&str], seed: Seed, buckets: u32, keys: u32) -> Self {
        let hash = hash(&seed, kind, name.iter());
        let buckets = buckets.max(1);
        Self {
            prefix: format!("{kind}.{:016x}.", hash.0),
            seed,
            buckets,
            slots_per_bucket: slots_per_bucket(keys.div_ceil(buckets)) as usize,
        }
    }

    /// The most slots of a bucket.
    pub(crate) fn slots_per_bucket(&self) -> usize {
        self.slots_per_bucket
    }

    /// The location of a key, which is given in parts, within a name `space`.
    pub(crate) fn locate<P: AsRef<[u8]>>(&self, space: &str, parts: impl Iterator<Item = P>) -> Location {
        let (high, low) = hash(&self.seed, space, parts);
        let mut bucket = String::with_capacity(self.prefix.len().saturating_add(8));
        bucket.push_str(&self.prefix);
        let _ = write!(bucket, "{:x}", high % u64::from(self.buckets));
        Location {
            bucket,
            // Zero is reserved.
            fingerprint: low.max(1),
        }
    }

    /// Reads the bucket of a location.
    ///
    /// # Errors
    /// [`Unreadable`] if the stored value is not a bucket.
    pub(crate) fn read(&self, state: &dyn SharedState, location: &Location) -> Result<Bucket, Unreadable> {
        let Some((bytes, version)) = state.get(&location.bucket) else {
            return Ok(Bucket {
                slots: Vec::new(),
                version: None,
            });
        };
        let (chunks, rest) = bytes.as_chunks::<SLOT>();
        if !rest.is_empty() {
            return Err(Unreadable);
        }
        let slot = |bytes: &[u8; SLOT]| {
            let both = u128::from_le_bytes(*bytes);
            (both as u64, (both >> 64) as u64)
        };
        Ok(Bucket {
            slots: chunks.iter().map(slot).collect(),
            version: Some(version),
        })
    }

    /// Writes the bucket of a location, if no other worker has since it was read.
    ///
    /// # Errors
    /// [`Conflict`] if another worker has.
    pub(crate) fn write(
        &self,
        state: &dyn SharedState,
        location: &Location,
        bucket: &Bucket,
    ) -> Result<(), Conflict> {
        let mut bytes = Vec::with_capacity(bucket.slots.len().saturating_mul(SLOT));
        for (fingerprint, number) in &bucket.slots {
            bytes.extend((u128::from(*fingerprint) | (u128::from(*number) << 64)).to_le_bytes());
        }
        match bucket.version {
            Some(version) => state.set(&location.bucket, &bytes, Some(version)),
            None => state.create(&location.bucket, &bytes),
        }
    }
}

impl Bucket {
    /// The number of a key, if the bucket contains it.
    pub(crate) fn get(&self, location: &Location) -> Option<u64> {
        self.find(location.fingerprint)
    }

    pub(crate) fn find(&self, fingerprint: u64) -> Option<u64> {
        let found = self.slots.iter().find(|(stored, _)| *stored == fingerprint)?;
        Some(found.1)
    }

    /// Sets the number of a key. Returns false if the bucket contains `slots_per_bucket` others.
    pub(crate) fn put(&mut self, location: &Location, number: u64, slots_per_bucket: usize) -> bool {
        let has_space = self.slots.len() < slots_per_bucket;
        let held = self
            .slots
            .iter_mut()
            .find(|(held, _)| *held == location.fingerprint);
        if let Some((_, held)) = held {
            *held = number;
            return true;
        }
        if has_space {
            self.slots.push((location.fingerprint, number));
        }
        has_space
    }

    /// All slots in use.
    pub(crate) fn slots(&mut self) -> &mut Vec<Slot> {
        &mut self.slots
    }
}

/// The number of slots for a bucket that gets `mean` keys on average. Keys are distributed randomly, and a table must
/// have space for its stated number: with four standard deviations and twelve slots more, less than one bucket in 100
/// 000 is too small.
fn slots_per_bucket(mean: u32) -> u32 {
    let deviation = mean.isqrt().saturating_add(1);
    mean.saturating_add(deviation.saturating_mul(4))
        .saturating_add(12)
}

fn hash<P: AsRef<[u8]>>(seed: &Seed, space: &str, parts: impl Iterator<Item = P>) -> (u64, u64) {
    let mut hasher = SipHasher13::new_with_key(seed);
    let mut write = |part: &[u8]| {
        hasher.write_u64(part.len() as u64);
        hasher.write(part);
    };
    write(space.as_bytes());
    parts.for_each(|part| write(part.as_ref()));
    let hash = hasher.finish128();
    (hash.h1, hash.h2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::memory::MemoryState;

    #[test]
    fn the_first_worker_sets_the_seed() {
        let state = MemoryState::default();
        assert_eq!(seed(&state, [1; 16]), Some([1; 16]));
        assert_eq!(seed(&state, [2; 16]), Some([1; 16]));
    }

    #[test]
    fn two_workers_that_create_a_bucket_do_not_overwrite_each_other() {
        let state = MemoryState::default();
        let table = Table::new("t", &["a"], [1; 16], 1, 8);
        let (one, two) = (table.locate("", ["1"].iter()), table.locate("", ["2"].iter()));
        let mut first = table.read(&state, &one).unwrap();
        let mut second = table.read(&state, &two).unwrap();
        assert!(
            first.put(&one, 7, table.slots_per_bucket()) && second.put(&two, 8, table.slots_per_bucket())
        );
        assert_eq!(table.write(&state, &one, &first), Ok(()));
        assert_eq!(table.write(&state, &two, &second), Err(Conflict));
        assert_eq!(table.read(&state, &one).unwrap().get(&one), Some(7));
    }

    #[test]
    fn a_foreign_value_is_unreadable() {
        let state = MemoryState::default();
        let table = Table::new("t", &["a"], [1; 16], 1, 8);
        let location = table.locate("", ["1"].iter());
        state.set(&location.bucket, b"seventeen bytes..", None).unwrap();
        assert_eq!(table.read(&state, &location).err(), Some(Unreadable));
    }

    #[test]
    fn a_table_has_space_for_its_number_of_keys() {
        for (buckets, keys) in [(1_024, 1_024), (4_096, 4_096), (1_024, 131_072), (4_096, 65_536)] {
            let table = Table::new("t", &["a"], [1; 16], buckets, keys);
            let mut held = std::collections::HashMap::<String, usize>::new();
            for key in 0..keys {
                *held
                    .entry(table.locate("", [key.to_string()].iter()).bucket)
                    .or_default() += 1;
            }
            let fullest = held.values().max().copied().unwrap_or_default();
            assert!(
                fullest <= table.slots_per_bucket(),
                "{keys} keys: {fullest} of {}",
                table.slots_per_bucket()
            );
        }
    }

    #[test]
    fn parts_of_a_key_are_separate() {
        let table = Table::new("t", &["a"], [1; 16], 1, 8);
        let location = |parts: &[&str]| table.locate("", parts.iter());
        assert_ne!(location(&["ab", "c"]), location(&["a", "bc"]));
        assert_eq!(location(&["ab", "c"]), location(&["ab", "c"]));
    }

    #[test]
    fn the_number_of_keys_may_change_without_losing_entries() {
        let state = MemoryState::default();
        let small = Table::new("t", &["a"], [1; 16], 4, 8);
        let large = Table::new("t", &["a"], [1; 16], 4, 8_000);
        let location = small.locate("", ["1"].iter());
        let mut bucket = small.read(&state, &location).unwrap();
        bucket.put(&location, 7, small.slots_per_bucket());
        small.write(&state, &location, &bucket).unwrap();
        let again = large.locate("", ["1"].iter());
        assert_eq!(large.read(&state, &again).unwrap().get(&again), Some(7));
    }
}
