//! The ports in memory, for tests, `postern try` and benchmarks.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::Duration;

use super::{Clock, Conflict, SharedState, Version};

/// A shared state in the memory of one process.
#[derive(Debug, Default)]
pub struct MemoryState {
    values: RefCell<HashMap<String, (Vec<u8>, u32)>>,
}

#[cfg(test)]
impl MemoryState {
    pub(crate) fn names(&self) -> std::collections::BTreeSet<String> {
        self.values.borrow().keys().cloned().collect()
    }
}

impl SharedState for MemoryState {
    fn get(&self, key: &str) -> Option<(Vec<u8>, Version)> {
        let values = self.values.borrow();
        let (value, version) = values.get(key)?;
        Some((value.clone(), Version::new(*version)?))
    }

    fn set(&self, key: &str, value: &[u8], expected: Option<Version>) -> Result<(), Conflict> {
        let mut values = self.values.borrow_mut();
        let held = values.get(key).map(|(_, version)| *version);
        if expected.is_some_and(|expected| Some(expected.get()) != held) {
            return Err(Conflict);
        }
        // Versions wrap around, but are never zero.
        let next = held.unwrap_or(0).checked_add(1).unwrap_or(1);
        values.insert(key.to_owned(), (value.to_vec(), next));
        Ok(())
    }

    fn create(&self, key: &str, value: &[u8]) -> Result<(), Conflict> {
        if self.values.borrow().contains_key(key) {
            return Err(Conflict);
        }
        self.set(key, value, None)
    }
}

/// A clock that changes only by [`advance`](Self::advance).
#[derive(Debug)]
pub struct ManualClock {
    wall: Cell<Duration>,
    monotonic: Cell<Duration>,
}

impl ManualClock {
    /// A clock at `wall`, the time since the Unix epoch.
    #[must_use]
    pub fn at(wall: Duration) -> Self {
        // Not zero: a machine's clock never is once a proxy runs.
        Self {
            wall: Cell::new(wall),
            monotonic: Cell::new(Duration::from_secs(1_000)),
        }
    }

    /// Advances both clocks.
    pub fn advance(&self, by: Duration) {
        self.wall.set(self.wall.get().saturating_add(by));
        self.monotonic.set(self.monotonic.get().saturating_add(by));
    }
}

impl Clock for ManualClock {
    fn wall(&self) -> Duration {
        self.wall.get()
    }

    fn monotonic(&self) -> Duration {
        self.monotonic.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_version_that_was_read_is_replaced() {
        let state = MemoryState::default();
        assert_eq!(state.get("k"), None);
        assert_eq!(state.set("k", b"1", None), Ok(()));
        let (_, version) = state.get("k").unwrap();
        assert_eq!(state.set("k", b"2", Some(version)), Ok(()));
        assert_eq!(state.set("k", b"3", Some(version)), Err(Conflict));
        assert_eq!(state.get("k").unwrap().0, b"2");
        assert_eq!(state.set("absent", b"", Some(version)), Err(Conflict));
        assert_eq!(state.create("k", b"4"), Err(Conflict));
        assert_eq!(state.create("new", b"1"), Ok(()));
    }
}
