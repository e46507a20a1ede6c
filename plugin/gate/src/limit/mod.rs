//! Rate limits: governor's GCRA over the shared state, exact across all workers of a proxy.
//!
//! A limit admits at most `burst + t * quota / window` requests per key in any interval `t`.

mod limiter;

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};

use crate::id::LimitId;

pub(crate) use limiter::{Charge, ChargeResult, LimitCheck, Limiter};

/// The longest time until a key has its full quota again, so that arrival times do not overflow.
const MAX_REFILL: Duration = Duration::from_secs(10 * 366 * 86_400);

/// The configurable range of the number of keys that a limit counts at once.
const KEYS: std::ops::RangeInclusive<u32> = 4_096..=4_194_304;

/// A part of a limit's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyPart {
    Subject,
    ApiKey,
    Address,
    Header(String),
}

/// A compiled limit.
#[derive(Debug)]
pub(crate) struct Limit {
    pub(crate) id: LimitId,
    pub(crate) name: String,
    pub(crate) key: Vec<KeyPart>,
    quota: Quota,
    /// Requests per window, and the window in seconds, as in `RateLimit-Policy`.
    stated: (u32, u64),
    /// This limit's item of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
    policy: String,
    /// Separates this limit's counts from those of the same limit with another quota or key.
    identity: String,
    /// The number of keys that are counted at once.
    keys: u32,
}

/// The state of one key of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitState {
    /// The number of requests that are admitted at once.
    pub(crate) remaining: u32,
    /// The time until one more is admitted; zero if the whole burst is.
    pub(crate) next: Duration,
}

/// The table could not be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unavailable;

/// The state of a limit after a request, for headers and explanations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitReport<'a> {
    /// The limit's name.
    pub name: &'a str,
    /// Requests per window.
    pub quota: u32,
    /// The window in whole seconds, at least one.
    pub window: u64,
    /// The number of further requests that are admitted at once.
    pub remaining: u32,
    /// Seconds until one more is admitted, rounded up; zero if the whole burst is.
    pub reset: u64,
    /// Whether this request was within the limit.
    pub admitted: bool,
}

impl Limit {
    /// # Errors
    /// The field that is out of range, and why.
    pub(crate) fn new(
        id: LimitId,
        name: String,
        key: Vec<KeyPart>,
        quota: u32,
        window: Duration,
        burst: Option<u32>,
        keys: u32,
    ) -> Result<Self, (&'static str, &'static str)> {
        let requests = NonZeroU32::new(quota).ok_or(("quota", "must be at least 1"))?;
        let burst = NonZeroU32::new(burst.unwrap_or(quota)).ok_or(("burst", "must be at least 1"))?;
        let period = window / requests.get();
        if window > Duration::from_secs(31 * 86_400) {
            return Err(("window", "must be at most 31 days"));
        }
        let quota = Quota::with_period(period)
            .ok_or((
                "window",
                "is too short for the quota: less than a nanosecond per request",
            ))?
            .allow_burst(burst);
        if period
            .checked_mul(burst.get())
            .is_none_or(|full| full > MAX_REFILL)
        {
            return Err(("burst", "takes over ten years to replenish"));
        }
        let seconds = window.as_secs_f64().ceil().max(1.0) as u64;
        if !KEYS.contains(&keys) {
            return Err(("keys", "must be from 4096 to 4194304"));
        }
        let identity = format!("{requests}/{}/{burst}/{key:?}", window.as_nanos());
        let policy = format!("\"{name}\";q={requests};w={seconds}");
        Ok(Self {
            id,
            name,
            key,
            quota,
            stated: (requests.get(), seconds),
            policy,
            identity,
            keys,
        })
    }

    pub(crate) fn policy(&self) -> &str {
        &self.policy
    }

    /// Reports the state of a key. `admitted`: the request was within the limit.
    pub(crate) fn report(&self, state: LimitState, admitted: bool) -> LimitReport<'_> {
        let (quota, window) = self.stated;
        LimitReport {
            name: &self.name,
            quota,
            window,
            remaining: state.remaining,
            reset: whole_seconds(state.next),
            admitted,
        }
    }

    /// Decides, by GCRA, on a request at `now`, on the shared clock. `arrival` is the key's theoretical arrival time.
    /// Returns the next one.
    ///
    /// # Errors
    /// How long to wait, if the request is over the limit.
    fn decide(&self, arrival: Option<u64>, now: u64) -> Result<u64, Duration> {
        let cell = Cell::default();
        let store = SingleKeyStore {
            arrival: arrival.map(Nanos::from),
            next: &cell,
        };
        // A limiter counts from its creation: created at time zero, all workers count from the same origin.
        let clock = FixedClock(Cell::new(Nanos::from(0)));
        let limiter = RateLimiter::<_, _, _, NoOpMiddleware<Nanos>>::new(self.quota, store, clock);
        let now = Nanos::from(now);
        limiter.clock().0.set(now);
        match limiter.check_key(&()) {
            Ok(()) => Ok(cell.get().as_u64()),
            Err(until) => Err(until.wait_time_from(now)),
        }
    }

    /// The state at `now` of a key with this theoretical arrival time.
    fn state(&self, arrival: Option<u64>, now: u64) -> LimitState {
        let (period, burst) = (self.period(), self.quota.burst_size().get());
        let used = arrival.unwrap_or(now).saturating_sub(now);
        let full = period.saturating_mul(burst.into());
        // The period is never zero: `Quota` rejects that.
        let remaining = full.saturating_sub(used).checked_div(period).unwrap_or(0);
        let remaining = u32::try_from(remaining).unwrap_or(u32::MAX);
        // The next request is admitted once the use has decreased by this much.
        let missing = burst.saturating_sub(remaining).saturating_sub(1);
        let next = used.saturating_sub(period.saturating_mul(missing.into()));
        LimitState {
            remaining,
            next: Duration::from_nanos(next),
        }
    }

    /// The time in which one request is replenished, in nanoseconds.
    fn period(&self) -> u64 {
        u64::try_from(self.quota.replenish_interval().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// The time in seconds, rounded up.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

impl LimitReport<'_> {
    /// Appends this limit's item of `RateLimit`: the remaining requests, and the seconds until there are more. Every
    /// limited request does this, so that it avoids `format!`.
    pub(crate) fn append_state(&self, list: &mut String) {
        let mut digits = itoa::Buffer::new();
        list.reserve(self.name.len().saturating_add(40));
        list.push_str(if list.is_empty() { "\"" } else { ", \"" });
        list.push_str(self.name);
        list.push_str("\";r=");
        list.push_str(digits.format(self.remaining));
        list.push_str(";t=");
        list.push_str(digits.format(self.reset));
    }
}

/// A governor state store for one key, whose state is read before and written after.
struct SingleKeyStore<'a> {
    arrival: Option<Nanos>,
    next: &'a Cell<Nanos>,
}

impl StateStore for SingleKeyStore<'_> {
    type Key = ();

    fn measure_and_replace<T, F, E>(&self, _: &(), decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (value, next) = decide(self.arrival)?;
        self.next.set(next);
        Ok(value)
    }
}

/// A clock that stands still: the shared monotonic clock is read once per request.
struct FixedClock(Cell<Nanos>);

impl GovernorClock for FixedClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.get()
    }
}

#[cfg(test)]
mod tests;
