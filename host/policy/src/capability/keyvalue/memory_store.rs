//! The in-memory store of one entry: bounded, and never searched from end to end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{KEPT, number, overflow};
use crate::bindings::keyvalue::Error;

/// What a value costs beside the bytes of its key and its own: its places in the map and among the ends, and what the
/// allocator adds to each of its allocations.
const OVERHEAD: usize = 256;
/// How many values that have ended are removed with each change, beside those whose room is needed. More than one, so
/// that they become fewer while new ones come.
const REMOVED: usize = 4;

/// What one entry keeps in memory. A lock is never held for longer than a few look-ups take: every decision of the entry
/// wants it.
#[derive(Default)]
pub(crate) struct MemoryStore {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// A tree: a hash table would move all of its values at once when it grows.
    values: BTreeMap<Arc<str>, Value>,
    /// The ends of those that have one, the next first.
    ends: BTreeSet<(Instant, Arc<str>)>,
    cost: usize,
}

#[derive(Clone)]
struct Value {
    bytes: Arc<[u8]>,
    until: Option<Instant>,
}

fn cost(key: &str, bytes: &[u8]) -> usize {
    OVERHEAD + key.len() + bytes.len()
}

impl Kept {
    fn get(&self, key: &str, now: Instant) -> Option<&Value> {
        self.values
            .get(key)
            .filter(|value| value.until.is_none_or(|until| now < until))
    }

    fn remove(&mut self, key: &str) {
        if let Some((key, value)) = self.values.remove_entry(key) {
            self.cost -= cost(&key, &value.bytes);
            if let Some(until) = value.until {
                self.ends.remove(&(until, key));
            }
        }
    }

    /// Removes the value whose end is the longest past, if one has ended.
    fn remove_ended(&mut self, now: Instant) -> bool {
        let Some((_, key)) = self.ends.first().filter(|(until, _)| *until <= now) else {
            return false;
        };
        let key = Arc::clone(key);
        self.remove(&key);
        true
    }

    fn set(&mut self, key: &str, value: Value, now: Instant) -> Result<(), Error> {
        for _ in 0..REMOVED {
            self.remove_ended(now);
        }
        let wanted = cost(key, &value.bytes);
        let over = |kept: &Self| {
            let replaced = kept.values.get(key).map_or(0, |old| cost(key, &old.bytes));
            kept.cost - replaced + wanted > KEPT
        };
        while over(self) {
            if !self.remove_ended(now) {
                return Err(Error::TooLarge(format!(
                    "the store of this policy is full: {KEPT} bytes, of which each value costs {OVERHEAD} beside its own"
                )));
            }
        }
        self.remove(key);
        let key: Arc<str> = key.into();
        if let Some(until) = value.until {
            self.ends.insert((until, Arc::clone(&key)));
        }
        self.values.insert(key, value);
        self.cost += wanted;
        Ok(())
    }
}

fn end(ttl: Option<Duration>, now: Instant) -> Option<Instant> {
    ttl.and_then(|ttl| now.checked_add(ttl))
}

impl MemoryStore {
    fn with<R>(&self, act: impl FnOnce(&mut Kept, Instant) -> R) -> R {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut kept, Instant::now())
    }

    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        let bytes = self.with(|kept, now| kept.get(key, now).map(|value| Arc::clone(&value.bytes)));
        bytes.map(|bytes| bytes.to_vec())
    }

    pub(super) fn set(&self, key: &str, bytes: Vec<u8>, ttl: Option<Duration>) -> Result<(), Error> {
        let bytes = bytes.into();
        self.with(|kept, now| {
            let until = end(ttl, now);
            kept.set(key, Value { bytes, until }, now)
        })
    }

    pub(super) fn delete(&self, key: &str) {
        self.with(|kept, _| kept.remove(key));
    }

    pub(super) fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, Error> {
        self.with(|kept, now| {
            let (before, until) = match kept.get(key, now) {
                Some(value) => (number(&value.bytes)?, value.until),
                None => (0, end(ttl, now)),
            };
            let sum = before.checked_add(by).ok_or_else(overflow)?;
            let bytes = sum.to_string().into_bytes().into();
            kept.set(key, Value { bytes, until }, now)?;
            Ok(sum)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::VALUE;
    use super::*;

    fn value(size: usize, until: Option<Instant>) -> Value {
        Value {
            bytes: vec![0; size].into(),
            until,
        }
    }

    #[test]
    fn a_shelf_is_bounded_and_forgets_what_has_ended() {
        let mut kept = Kept::default();
        let now = Instant::now();
        let soon = now + Duration::from_secs(1);
        let mut stored = 0;
        while kept
            .set(&format!("{stored:06}"), value(VALUE, Some(soon)), now)
            .is_ok()
        {
            stored += 1;
        }
        assert_eq!(stored, KEPT / (VALUE + 6 + OVERHEAD));
        assert!(kept.get("000000", now).is_some());
        kept.set("000000", value(VALUE, Some(soon)), now).unwrap();
        let later = now + Duration::from_secs(2);
        assert!(kept.get("000001", later).is_none());
        for i in 0..stored {
            kept.set("fresh", value(VALUE, None), later).unwrap();
            assert!(kept.values.len() <= 1 + stored.saturating_sub(REMOVED * (i + 1)));
        }
        assert_eq!(kept.cost, VALUE + 5 + OVERHEAD, "replaced, not added");
        kept.remove("fresh");
        assert_eq!((kept.cost, kept.values.len(), kept.ends.len()), (0, 0, 0));
    }

    #[test]
    fn short_keys_cost_what_they_take() {
        let mut kept = Kept::default();
        let now = Instant::now();
        let mut stored = 0_usize;
        while kept.set(&stored.to_string(), value(0, None), now).is_ok() {
            stored += 1;
        }
        assert!(stored <= KEPT / OVERHEAD, "{stored}");
        assert!(
            kept.set("0", value(0, None), now).is_ok(),
            "one that is there is replaced"
        );
        assert!(kept.set("0", value(VALUE, None), now).is_err());
        assert!(kept.get("0", now).is_some(), "what cannot be replaced stays");
    }

    #[test]
    fn a_full_shelf_answers_as_quickly_as_an_empty_one() {
        let mut kept = Kept::default();
        let now = Instant::now();
        // All of them have an end that is far away: none of them makes room.
        let until = Some(now + Duration::from_secs(3600));
        let mut stored = 0_usize;
        while kept.set(&stored.to_string(), value(0, until), now).is_ok() {
            stored += 1;
        }
        let started = Instant::now();
        for i in 0..10_000 {
            assert!(kept.set(&format!("more {i}"), value(0, until), now).is_err());
        }
        // Searching all of them takes a millisecond each time.
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{:?}",
            started.elapsed()
        );
    }

    #[test]
    fn a_counter_counts_from_nothing_and_keeps_its_end() {
        let shelf = MemoryStore::default();
        let minute = Some(Duration::from_secs(60));
        assert_eq!(shelf.increment("n", 2, minute).unwrap(), 2);
        let end = |shelf: &MemoryStore| shelf.with(|kept, now| kept.get("n", now).unwrap().until);
        let first = end(&shelf);
        let later = Some(Duration::from_secs(999));
        assert_eq!(shelf.increment("n", -3, later).unwrap(), -1);
        assert_eq!(end(&shelf), first);
        assert!(shelf.increment("n", i64::MIN, None).is_err(), "no wrap-around");
        shelf.set("t", b"text".to_vec(), None).unwrap();
        assert!(shelf.increment("t", 1, None).is_err());
        shelf.delete("t");
        assert_eq!(shelf.get("t"), None);
    }
}
