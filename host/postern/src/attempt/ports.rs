//! The gate's surroundings, in memory.

use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use postern_gate::ports::{Clock, Conflict, Event, Metrics, SharedState, Version};

/// A clock that stands still.
pub(super) struct StandingClock(pub(super) Duration);

impl Clock for StandingClock {
    fn wall(&self) -> Duration {
        self.0
    }

    fn monotonic(&self) -> Duration {
        self.0
    }
}

/// Envoy's shared data for a proxy of one worker.
#[derive(Default)]
pub(super) struct InMemory(RefCell<HashMap<String, (Vec<u8>, Version)>>);

impl SharedState for InMemory {
    fn get(&self, key: &str) -> Option<(Vec<u8>, Version)> {
        self.0.borrow().get(key).cloned()
    }

    fn set(&self, key: &str, value: &[u8], expected: Option<Version>) -> Result<(), Conflict> {
        let mut map = self.0.borrow_mut();
        let held = map.get(key).map(|(_, version)| *version);
        if expected.is_some() && expected != held {
            return Err(Conflict);
        }
        let version = held.map_or(NonZeroU32::MIN, |version| version.saturating_add(1));
        map.insert(key.to_owned(), (value.to_vec(), version));
        Ok(())
    }
}

/// What happened, kept to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Noted {
    Matched { rule: usize },
    Authenticated { by: String, subject: String },
    Authorized,
    Limited(Limited),
    Evicted,
}

/// What a limit came to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Limited {
    pub(super) name: String,
    pub(super) quota: u32,
    pub(super) window_seconds: u64,
    pub(super) remaining: u32,
    pub(super) reset_seconds: u64,
    pub(super) admitted: bool,
}

/// Keeps the events of a request.
#[derive(Default)]
pub(super) struct Recorder(RefCell<Vec<Noted>>);

impl Recorder {
    /// What was noted since the last time.
    pub(super) fn take(&self) -> Vec<Noted> {
        self.0.take()
    }
}

impl Metrics for Recorder {
    fn note(&self, event: &Event<'_>) {
        let noted = match event {
            Event::Matched { rule } => Noted::Matched { rule: *rule },
            Event::Authenticated { by, subject } => Noted::Authenticated {
                by: (*by).to_owned(),
                subject: (*subject).to_owned(),
            },
            Event::Authorized => Noted::Authorized,
            Event::Limited { report } => Noted::Limited(Limited {
                name: report.name.to_owned(),
                quota: report.quota,
                window_seconds: report.window,
                remaining: report.remaining,
                reset_seconds: report.reset,
                admitted: report.admitted,
            }),
            Event::Evicted => Noted::Evicted,
            // The step itself tells the decision, and keys given by hand are never old.
            Event::StaleKeys | Event::Admitted { .. } | Event::Refused { .. } => return,
        };
        self.0.borrow_mut().push(noted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_with_an_old_version_is_refused() {
        let state = InMemory::default();
        assert!(state.set("k", b"1", None).is_ok());
        let (_, version) = state.get("k").unwrap();
        assert!(state.set("k", b"2", Some(version)).is_ok());
        assert_eq!(state.set("k", b"3", Some(version)), Err(Conflict));
        assert_eq!(state.get("k").unwrap().0, b"2");
        assert_eq!(state.set("absent", b"", Some(version)), Err(Conflict));
    }
}
