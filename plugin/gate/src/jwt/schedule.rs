//! When an issuer's keys are fetched: ahead of expiry, backing off after failures, early for unknown keys as far as the
//! budget for that goes, and by one worker of the proxy at a time.

use std::time::Duration;

use crate::config::Jwks;

/// How many early fetches in a row unknown keys can cause; one more is granted for each `cooldown` that passes. Anybody
/// can name an unknown key, so the budget bounds what the identity provider sees; there is more than one so that a
/// stranger, or an old token, does not use up what the next rotation needs.
pub(crate) const EARLY_FETCHES: u32 = 10;

/// How an issuer's keys are kept fresh.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    refresh: Duration,
    cooldown: Duration,
    /// How long a fetched set may be used.
    pub max_stale: Duration,
    /// How long one fetch may take.
    pub timeout: Duration,
}

/// What all workers know of an issuer's fetches. Times are on the shared monotonic clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FetchRecord {
    /// When the fetch of the set that is held began: keys published later may be missing in it.
    pub fetched: Option<Duration>,
    /// When the last fetch began.
    pub attempted: Option<Duration>,
    /// A fetch began and has not ended.
    pub pending: bool,
    /// Fetches that failed since the last success.
    pub failures: u32,
    /// When the whole budget of early fetches is there again.
    pub replenished: Option<Duration>,
}

impl FetchRecord {
    /// The length of [`encode`](Self::encode)'s result, in bytes.
    pub const ENCODED: usize = 29;

    /// A fetch begins now.
    fn start(self, now: Duration) -> Self {
        Self {
            attempted: Some(now),
            pending: true,
            ..self
        }
    }

    /// The fetch ended, with keys or without.
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

    /// Whoever fetched will not learn how it ends: the next may begin at once.
    #[must_use]
    pub fn abandon(self) -> Self {
        Self {
            pending: false,
            ..self
        }
    }

    /// Bytes for the shared state.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let nanos = |t: Option<Duration>| t.map_or(0, |t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX));
        let mut bytes = Vec::with_capacity(Self::ENCODED);
        bytes.extend(nanos(self.fetched).to_le_bytes());
        bytes.extend(nanos(self.attempted).to_le_bytes());
        bytes.extend(nanos(self.replenished).to_le_bytes());
        bytes.extend(self.failures.to_le_bytes());
        bytes.push(u8::from(self.pending));
        bytes
    }

    /// Reads [`encode`](Self::encode)'s bytes; anything else is a record of nothing.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Self {
        fn read(bytes: &[u8]) -> Option<FetchRecord> {
            let (fetched, rest) = bytes.split_first_chunk()?;
            let (attempted, rest) = rest.split_first_chunk()?;
            let (replenished, rest) = rest.split_first_chunk()?;
            let (failures, rest) = rest.split_first_chunk()?;
            let time = |bytes: &[u8; 8]| match u64::from_le_bytes(*bytes) {
                0 => None,
                nanos => Some(Duration::from_nanos(nanos)),
            };
            Some(FetchRecord {
                fetched: time(fetched),
                attempted: time(attempted),
                replenished: time(replenished),
                failures: u32::from_le_bytes(*failures),
                pending: *rest.first()? == 1,
            })
        }
        read(bytes).unwrap_or_default()
    }
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

    /// Whether a fetch should begin now. `unknown_key`: a request named a key that is not held.
    #[must_use]
    pub fn due(&self, record: &FetchRecord, unknown_key: bool, now: Duration) -> bool {
        self.begin(record, unknown_key, now).is_some()
    }

    /// The record of a fetch that begins now; `None` if none is due.
    #[must_use]
    pub fn begin(&self, record: &FetchRecord, unknown_key: bool, now: Duration) -> Option<FetchRecord> {
        let since = |t: Option<Duration>| t.map_or(Duration::MAX, |t| now.saturating_sub(t));
        let since_attempt = since(record.attempted);
        // A worker that took the fetch and died must not hold it for ever.
        if record.pending && since_attempt < self.timeout.saturating_mul(2) {
            return None;
        }
        if record.failures > 0 {
            let doubled = Duration::from_secs(1 << record.failures.saturating_sub(1).min(16));
            let over = since_attempt >= doubled.min(self.cooldown);
            return over.then(|| record.start(now));
        }
        if since(record.fetched) >= self.refresh {
            return Some(record.start(now));
        }
        if !unknown_key {
            return None;
        }
        // The budget is a token bucket, kept as the time at which it is full.
        let replenished = record
            .replenished
            .map_or(now, |at| at.max(now))
            .saturating_add(self.cooldown);
        let whole = self.cooldown.saturating_mul(EARLY_FETCHES);
        (replenished.saturating_sub(now) <= whole).then(|| FetchRecord {
            replenished: Some(replenished),
            ..record.start(now)
        })
    }

    /// Whether a set fetched that long ago is older than it would be if fetches succeeded.
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
    fn keys_are_fetched_at_once_then_ahead_of_expiry() {
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
    fn a_fetch_that_was_given_up_holds_up_nobody() {
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
    fn a_refresh_costs_nothing_of_the_budget() {
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
    fn a_record_survives_the_shared_state() {
        let record = FetchRecord {
            failures: 7,
            replenished: Some(at(9)),
            ..FetchRecord::default().start(at(5)).finish(true)
        };
        assert_eq!(FetchRecord::decode(&record.encode()), record);
        assert_eq!(record.encode().len(), FetchRecord::ENCODED);
        assert_eq!(FetchRecord::decode(b"short"), FetchRecord::default());
    }
}
