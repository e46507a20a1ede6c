//! The in-memory store of one entry: bounded in size, without linear scans.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{MAX_STORED, overflow, parse_counter};
use crate::bindings::keyvalue::Error;

/// Bytes that an entry costs in addition to its key and value: its nodes in the two trees and the allocator's overhead.
const OVERHEAD: usize = 256;
/// Expired values removed with each change, in addition to those removed to make room. More than one, so that their
/// number shrinks while new values are added.
const EVICTIONS_PER_CHANGE: usize = 4;

/// The values of one entry. The lock is held only for a few look-ups, because every decision of the entry contends for
/// it.
#[derive(Default)]
pub(crate) struct MemoryStore {
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    /// A tree, because a growing hash table would move all of its values at once.
    values: BTreeMap<Arc<str>, Value>,
    /// Expiry times of the values that have one, in order.
    expiries: BTreeSet<(Instant, Arc<str>)>,
    cost: usize,
}

#[derive(Clone)]
struct Value {
    bytes: Arc<[u8]>,
    expires_at: Option<Instant>,
}

fn cost(key: &str, bytes: &[u8]) -> usize {
    OVERHEAD + key.len() + bytes.len()
}

impl Entries {
    fn get(&self, key: &str, now: Instant) -> Option<&Value> {
        self.values
            .get(key)
            .filter(|value| value.expires_at.is_none_or(|expires_at| now < expires_at))
    }

    fn remove(&mut self, key: &str) {
        if let Some((key, value)) = self.values.remove_entry(key) {
            self.cost -= cost(&key, &value.bytes);
            if let Some(expires_at) = value.expires_at {
                self.expiries.remove(&(expires_at, key));
            }
        }
    }

    /// Removes the value that expired first, if any has expired.
    fn evict_expired(&mut self, now: Instant) -> bool {
        let Some((_, key)) = self.expiries.first().filter(|(expires_at, _)| *expires_at <= now) else {
            return false;
        };
        let key = Arc::clone(key);
        self.remove(&key);
        true
    }

    fn set(&mut self, key: &str, value: Value, now: Instant) -> Result<(), Error> {
        for _ in 0..EVICTIONS_PER_CHANGE {
            self.evict_expired(now);
        }
        let new_cost = cost(key, &value.bytes);
        let over = |entries: &Self| {
            let replaced = entries.values.get(key).map_or(0, |old| cost(key, &old.bytes));
            entries.cost - replaced + new_cost > MAX_STORED
        };
        while over(self) {
            if !self.evict_expired(now) {
                return Err(Error::TooLarge(format!(
                    "the key-value store of this policy is full: its limit is {MAX_STORED} bytes, where each value costs {OVERHEAD} bytes of overhead"
                )));
            }
        }
        self.remove(key);
        let key: Arc<str> = key.into();
        if let Some(expires_at) = value.expires_at {
            self.expiries.insert((expires_at, Arc::clone(&key)));
        }
        self.values.insert(key, value);
        self.cost += new_cost;
        Ok(())
    }
}

fn expires_at(ttl: Option<Duration>, now: Instant) -> Option<Instant> {
    ttl.and_then(|ttl| now.checked_add(ttl))
}

impl MemoryStore {
    fn with_lock<R>(&self, f: impl FnOnce(&mut Entries, Instant) -> R) -> R {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        f(&mut entries, Instant::now())
    }

    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        let bytes =
            self.with_lock(|entries, now| entries.get(key, now).map(|value| Arc::clone(&value.bytes)));
        bytes.map(|bytes| bytes.to_vec())
    }

    pub(super) fn set(&self, key: &str, bytes: Vec<u8>, ttl: Option<Duration>) -> Result<(), Error> {
        let bytes = bytes.into();
        self.with_lock(|entries, now| {
            let expires_at = expires_at(ttl, now);
            entries.set(key, Value { bytes, expires_at }, now)
        })
    }

    pub(super) fn delete(&self, key: &str) {
        self.with_lock(|entries, _| entries.remove(key));
    }

    pub(super) fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, Error> {
        self.with_lock(|entries, now| {
            let (before, expires_at) = match entries.get(key, now) {
                Some(value) => (parse_counter(&value.bytes)?, value.expires_at),
                None => (0, expires_at(ttl, now)),
            };
            let sum = before.checked_add(by).ok_or_else(overflow)?;
            let bytes = sum.to_string().into_bytes().into();
            entries.set(key, Value { bytes, expires_at }, now)?;
            Ok(sum)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::MAX_VALUE;
    use super::*;

    fn value(size: usize, expires_at: Option<Instant>) -> Value {
        Value {
            bytes: vec![0; size].into(),
            expires_at,
        }
    }

    #[test]
    fn a_store_is_bounded_and_removes_expired_values() {
        let mut entries = Entries::default();
        let now = Instant::now();
        let soon = now + Duration::from_secs(1);
        let mut stored = 0;
        while entries
            .set(&format!("{stored:06}"), value(MAX_VALUE, Some(soon)), now)
            .is_ok()
        {
            stored += 1;
        }
        assert_eq!(stored, MAX_STORED / (MAX_VALUE + 6 + OVERHEAD));
        assert!(entries.get("000000", now).is_some());
        entries.set("000000", value(MAX_VALUE, Some(soon)), now).unwrap();
        let later = now + Duration::from_secs(2);
        assert!(entries.get("000001", later).is_none());
        for i in 0..stored {
            entries.set("fresh", value(MAX_VALUE, None), later).unwrap();
            assert!(entries.values.len() <= 1 + stored.saturating_sub(EVICTIONS_PER_CHANGE * (i + 1)));
        }
        assert_eq!(entries.cost, MAX_VALUE + 5 + OVERHEAD, "replaced, not added");
        entries.remove("fresh");
        assert_eq!(
            (entries.cost, entries.values.len(), entries.expiries.len()),
            (0, 0, 0)
        );
    }

    #[test]
    fn short_keys_are_charged_their_overhead() {
        let mut entries = Entries::default();
        let now = Instant::now();
        let mut stored = 0_usize;
        while entries.set(&stored.to_string(), value(0, None), now).is_ok() {
            stored += 1;
        }
        assert!(stored <= MAX_STORED / OVERHEAD, "{stored}");
        assert!(
            entries.set("0", value(0, None), now).is_ok(),
            "an existing value is replaced"
        );
        assert!(entries.set("0", value(MAX_VALUE, None), now).is_err());
        assert!(
            entries.get("0", now).is_some(),
            "a failed replacement keeps the old value"
        );
    }

    #[test]
    fn a_full_store_is_as_fast_as_an_empty_one() {
        let mut entries = Entries::default();
        let now = Instant::now();
        // None of the values expires soon: none can be evicted to make room.
        let expires_at = Some(now + Duration::from_secs(3600));
        let mut stored = 0_usize;
        while entries
            .set(&stored.to_string(), value(0, expires_at), now)
            .is_ok()
        {
            stored += 1;
        }
        let started = Instant::now();
        for i in 0..10_000 {
            assert!(
                entries
                    .set(&format!("more {i}"), value(0, expires_at), now)
                    .is_err()
            );
        }
        // A linear scan would take a millisecond each time.
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{:?}",
            started.elapsed()
        );
    }

    #[test]
    fn a_counter_starts_at_zero_and_keeps_its_expiry() {
        let store = MemoryStore::default();
        let minute = Some(Duration::from_secs(60));
        assert_eq!(store.increment("n", 2, minute).unwrap(), 2);
        let expires_at =
            |store: &MemoryStore| store.with_lock(|entries, now| entries.get("n", now).unwrap().expires_at);
        let first = expires_at(&store);
        let later = Some(Duration::from_secs(999));
        assert_eq!(store.increment("n", -3, later).unwrap(), -1);
        assert_eq!(expires_at(&store), first);
        assert!(store.increment("n", i64::MIN, None).is_err(), "no wrap-around");
        store.set("t", b"text".to_vec(), None).unwrap();
        assert!(store.increment("t", 1, None).is_err());
        store.delete("t");
        assert_eq!(store.get("t"), None);
    }
}
