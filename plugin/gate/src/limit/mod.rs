//! Rate limits: governor's GCRA over the shared state, exact across all workers of a proxy.
//!
//! A limit admits at most `burst + t * quota / window` requests of one key in any interval `t`.

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

/// No key needs longer to have its whole quota back, so that no arrival time overflows.
const MAX_REFILL: Duration = Duration::from_secs(10 * 366 * 86_400);

/// How many keys a limit may be told to count at once.
const KEYS: std::ops::RangeInclusive<u32> = 4_096..=4_194_304;

/// What a limit counts apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyPart {
    Subject,
    ApiKey,
    Address,
    Header(String),
}

/// A limit, compiled.
#[derive(Debug)]
pub(crate) struct Limit {
    pub(crate) id: LimitId,
    pub(crate) name: String,
    pub(crate) key: Vec<KeyPart>,
    quota: Quota,
    /// Requests per window and the window in seconds, as the policy header states them.
    stated: (u32, u64),
    /// This limit's item of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
    policy: String,
    /// What keeps this limit's counts apart from those of the same limit with another quota.
    identity: String,
    /// How many keys are counted at once.
    keys: u32,
}

/// Where a key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitState {
    /// So many more requests may come at once.
    pub(crate) remaining: u32,
    /// One more may come after this time; zero if the whole burst may.
    pub(crate) next: Duration,
}

/// The table could not be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unavailable;

/// What a limit came to, for headers and explanations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitReport<'a> {
    /// The limit's name.
    pub name: &'a str,
    /// Requests per window.
    pub quota: u32,
    /// The window in whole seconds, at least one.
    pub window: u64,
    /// How many more may come at once.
    pub remaining: u32,
    /// Seconds until one more may come, rounded up; zero if the whole burst may.
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
                "is too short for the quota: less than a nanosecond a request",
            ))?
            .allow_burst(burst);
        if period
            .checked_mul(burst.get())
            .is_none_or(|whole| whole > MAX_REFILL)
        {
            return Err(("burst", "takes over ten years to be whole again"));
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

    /// What this limit came to. `admitted`: the request was within it.
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

    /// GCRA's decision at `now`, on the shared clock, on a key with this theoretical arrival time: its next one.
    ///
    /// # Errors
    /// How long to wait, if the request is over the limit.
    fn decide(&self, arrival: Option<u64>, now: u64) -> Result<u64, Duration> {
        let cell = Cell::default();
        let store = SingleKeyStore {
            arrival: arrival.map(Nanos::from),
            next: &cell,
        };
        // A limiter counts from the moment it was made; made at zero, all workers count from the same origin.
        let clock = FixedClock(Cell::new(Nanos::from(0)));
        let limiter = RateLimiter::<_, _, _, NoOpMiddleware<Nanos>>::new(self.quota, store, clock);
        let now = Nanos::from(now);
        limiter.clock().0.set(now);
        match limiter.check_key(&()) {
            Ok(()) => Ok(cell.get().as_u64()),
            Err(until) => Err(until.wait_time_from(now)),
        }
    }

    /// Where a key with this theoretical arrival time stands at `now`.
    fn state(&self, arrival: Option<u64>, now: u64) -> LimitState {
        let (period, burst) = (self.period(), self.quota.burst_size().get());
        let used = arrival.unwrap_or(now).saturating_sub(now);
        let whole = period.saturating_mul(burst.into());
        // A period is never zero: a quota has none.
        let remaining = whole.saturating_sub(used).checked_div(period).unwrap_or(0);
        let remaining = u32::try_from(remaining).unwrap_or(u32::MAX);
        // One more is there once so much less is used.
        let missing = burst.saturating_sub(remaining).saturating_sub(1);
        let next = used.saturating_sub(period.saturating_mul(missing.into()));
        LimitState {
            remaining,
            next: Duration::from_nanos(next),
        }
    }

    /// The time that gives one request back, in nanoseconds.
    fn period(&self) -> u64 {
        u64::try_from(self.quota.replenish_interval().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Seconds, rounded up.
pub(crate) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0))
}

impl LimitReport<'_> {
    /// Appends this limit's item of `RateLimit`: what is left, and the seconds until there is more. It is written on
    /// every limited request's path, hence without the formatting machinery.
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

/// governor's state store over one key that was read before, and is written after.
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

/// The shared monotonic clock, read once a request.
struct FixedClock(Cell<Nanos>);

impl GovernorClock for FixedClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.get()
    }
}

#[cfg(test)]
mod tests;
