//! When an issuer's keys are fetched: before they expire, with backoff after failures, early for unknown keys within
//! a budget, and by one worker of the proxy at a time.

use std::time::Duration;

use prost::Message;

use crate::config::Jwks;

/// The budget of early fetches that unknown keys can cause; each `cooldown` that passes returns one. Anyone can name
/// an unknown key, so the budget bounds the load on the identity provider. It is greater than one so that a stranger,
/// or an old token, does not use up the fetch that the next rotation needs.
pub(crate) const EARLY_FETCHES: u32 = 10;

/// When an issuer's keys are refreshed.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    refresh: Duration,
    cooldown: Duration,
    /// How long a fetched key set may be used.
    pub max_stale: Duration,
    /// The longest time that one fetch may take.
    pub timeout: Duration,
}

/// The state of an issuer's fetches, shared by all workers. Times are on the shared monotonic clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchRecord {
    /// The start of the fetch that returned the current key set. Keys published later may be missing from it.
    pub fetched: Option<Duration>,
    /// The start of the last fetch.
    pub attempted: Option<Duration>,
    /// Whether a fetch is in progress.
    pub pending: bool,
    /// The number of failed fetches since the last success.
    pub failures: u32,
    /// The time at which the budget of early fetches is full again.
    pub replenished: Option<Duration>,
}

impl FetchRecord {
    /// The record once a fetch has started.
    fn start(self, now: Duration) -> Self {
        Self {
            attempted: Some(now),
            pending: true,
            ..self
        }
    }

    /// The record once the fetch has ended, with keys or without.
    #[must_use]
    pub fn finish(self, success: bool) -> Self {
        if success {
            Self {
                fetched: self.attempted,
                pending: false,
                failures: 0,
                ..self
            }
        } else {
            Self {
                pending: false,
                failures: self.failures.saturating_add(1),
                ..self
            }
        }
    }

    /// The record once the fetch was abandoned, because its result cannot be received: the next may start at once.
    #[must_use]
    pub fn abandon(self) -> Self {
        Self {
            pending: false,
            ..self
        }
    }

    /// Encodes the record for the shared state. Never empty: the proxy does not tell an empty value from none.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let nanos = |t: Duration| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX);
        let message = StoredRecord {
            version: VERSION,
            fetched: self.fetched.map(nanos),
            attempted: self.attempted.map(nanos),
            replenished: self.replenished.map(nanos),
            failures: self.failures,
            pending: self.pending,
        };
        message.encode_to_vec()
    }

    /// Decodes a record. Anything but the result of [`encode`](Self::encode) becomes the default, without any fetch.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        let decoded = StoredRecord::decode(bytes).ok();
        let Some(message) = decoded.filter(|message| message.version == VERSION) else {
            return Self::default();
        };
        Self {
            fetched: message.fetched.map(Duration::from_nanos),
            attempted: message.attempted.map(Duration::from_nanos),
            replenished: message.replenished.map(Duration::from_nanos),
            failures: message.failures,
            pending: message.pending,
        }
    }
}

/// The form of [`StoredRecord`].
const VERSION: u32 = 1;

/// A [`FetchRecord`] in the shared state. Times in nanoseconds.
#[derive(Clone, PartialEq, Message)]
struct StoredRecord {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint64, optional, tag = "2")]
    fetched: Option<u64>,
    #[prost(uint64, optional, tag = "3")]
    attempted: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    replenished: Option<u64>,
    #[prost(uint32, tag = "5")]
    failures: u32,
    #[prost(bool, tag = "6")]
    pending: bool,
}

impl Schedule {
    pub(crate) fn new(jwks: &Jwks) -> Self {
        Self {
            refresh: jwks.refresh.0,
            cooldown: jwks.cooldown.0,
            max_stale: jwks.max_stale.0,
            timeout: jwks.timeout.0,
        }
    }

    /// Whether a fetch should start now. `unknown_key`: a request named a key that is not in the set.
    #[must_use]
    pub fn due(&self, record: &FetchRecord, unknown_key: bool, now: Duration) -> bool {
        self.begin(record, unknown_key, now).is_some()
    }

    /// Starts a fetch: returns its record, or `None` if none is due.
    #[must_use]
    pub fn begin(&self, record: &FetchRecord, unknown_key: bool, now: Duration) -> Option<FetchRecord> {
        let since = |t: Option<Duration>| t.map_or(Duration::MAX, |t| now.saturating_sub(t));
        let since_attempt = since(record.attempted);
        // A worker that started a fetch and died must not block others forever.
        if record.pending && since_attempt < self.timeout.saturating_mul(2) {
            return None;
        }
        if record.failures > 0 {
            let backoff = Duration::from_secs(1 << record.failures.saturating_sub(1).min(16));
            let elapsed = since_attempt >= backoff.min(self.cooldown);
            return elapsed.then(|| record.start(now));
        }
        if since(record.fetched) >= self.refresh {
            return Some(record.start(now));
        }
        if !unknown_key {
            return None;
        }
        // The budget is a token bucket, stored as the time at which it is full.
        let replenished = record
            .replenished
            .map_or(now, |at| at.max(now))
            .saturating_add(self.cooldown);
        let full = self.cooldown.saturating_mul(EARLY_FETCHES);
        (replenished.saturating_sub(now) <= full).then(|| FetchRecord {
            replenished: Some(replenished),
            ..record.start(now)
        })
    }

    /// Whether a key set of this age is older than it would be if fetches succeeded.
    pub(crate) fn is_late(&self, age: Duration) -> bool {
        age > self.refresh.saturating_add(self.cooldown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule {
        refresh: Duration::from_secs(600),
        cooldown: Duration::from_secs(30),
        max_stale: Duration::from_secs(86_400),
        timeout: Duration::from_secs(5),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn keys_are_fetched_at_once_and_then_before_they_expire() {
        let record = FetchRecord::default();
        assert!(SCHEDULE.due(&record, false, at(1)));
        let record = record.start(at(1));
        assert!(
            !SCHEDULE.due(&record, true, at(2)),
            "one worker fetches at a time"
        );
        assert!(
            SCHEDULE.due(&record, false, at(11)),
            "the worker that fetched has died"
        );
        let record = record.finish(true);
        assert!(!SCHEDULE.due(&record, false, at(600)));
        assert!(SCHEDULE.due(&record, false, at(601)));
    }

    #[test]
    fn an_abandoned_fetch_blocks_no_other() {
        let record = FetchRecord::default().start(at(1)).abandon();
        assert!(SCHEDULE.due(&record, false, at(1)));
        let record = FetchRecord::default()
            .start(at(1))
            .finish(true)
            .start(at(700))
            .abandon();
        assert!(SCHEDULE.due(&record, false, at(700)));
    }

    #[test]
    fn unknown_keys_cause_fetches_within_a_budget() {
        let mut record = FetchRecord::default().start(at(100)).finish(true);
        for _ in 0..EARLY_FETCHES {
            record = SCHEDULE.begin(&record, true, at(101)).unwrap().finish(true);
        }
        assert!(!SCHEDULE.due(&record, true, at(130)));
        assert!(!SCHEDULE.due(&record, false, at(131)));
        record = SCHEDULE.begin(&record, true, at(131)).unwrap().finish(true);
        assert!(
            !SCHEDULE.due(&record, true, at(160)),
            "one more for each cooldown"
        );
        assert!(SCHEDULE.due(&record, true, at(161)));
    }

    #[test]
    fn a_stranger_does_not_delay_a_rotation() {
        let record = FetchRecord::default().start(at(100)).finish(true);
        let record = SCHEDULE.begin(&record, true, at(101)).unwrap().finish(true);
        assert!(SCHEDULE.due(&record, true, at(102)));
    }

    #[test]
    fn a_regular_refresh_does_not_use_the_budget() {
        let record = FetchRecord::default().start(at(100)).finish(true);
        let record = SCHEDULE.begin(&record, true, at(700)).unwrap();
        assert_eq!(record.replenished, None);
    }

    #[test]
    fn failures_back_off_up_to_the_cooldown() {
        let mut record = FetchRecord::default();
        let mut now = at(10);
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            record = record.start(now).finish(false);
            assert!(!SCHEDULE.due(&record, true, now + at(expected) - Duration::from_millis(1)));
            now += at(expected);
            assert!(SCHEDULE.due(&record, false, now));
        }
        assert_eq!(record.start(now).finish(true).failures, 0);
    }

    #[test]
    fn a_record_is_encoded_and_decoded() {
        let record = FetchRecord {
            failures: 7,
            replenished: Some(at(9)),
            ..FetchRecord::default().start(at(5)).finish(true)
        };
        assert_eq!(FetchRecord::decode(&record.encode()), record);
        assert!(!FetchRecord::default().encode().is_empty());
        let half = record.encode();
        let half = half.split_at(half.len() / 2).0;
        for other in [&b"short"[..], b"", half] {
            assert_eq!(FetchRecord::decode(other), FetchRecord::default(), "{other:?}");
        }
    }
}
