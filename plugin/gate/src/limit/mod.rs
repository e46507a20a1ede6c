//! Rate limits: governor's GCRA over the shared state, exact across all workers of a proxy.
//!
//! A limit admits at most `burst + t * quota / window` requests of one key in any interval `t`.

mod table;

use std::cell::Cell;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use governor::clock::Clock as GovernorClock;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};

use crate::ports::{Event, Ports, SharedState};
use table::{Slot, Table, Updated};

/// No key needs longer to have its whole quota back, so that no arrival time overflows.
const MAX_REFILL: Duration = Duration::from_secs(10 * 366 * 86_400);

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
    pub(crate) name: String,
    pub(crate) key: Vec<KeyPart>,
    quota: Quota,
    /// Requests per window and the window in seconds, as the policy header states them.
    stated: (u32, u64),
    /// This limit's item of `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
    policy: Rc<str>,
    /// What keeps this limit's keys apart from those of other limits, and of this one with another quota.
    identity: String,
}

/// What a limit says to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may pass; so many more may come at once.
    Admitted { remaining: u32 },
    /// It may not; the next may after `wait`.
    Exceeded { wait: Duration },
    /// The table could not be read or written.
    Unavailable,
}

/// What a limit came to, for headers and explanations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report<'a> {
    /// The limit's name.
    pub name: &'a str,
    /// Requests per window.
    pub quota: u32,
    /// The window in whole seconds, at least one.
    pub window: u64,
    /// How many more may come at once.
    pub remaining: u32,
    /// Seconds until one more may come, rounded up.
    pub reset: u64,
    /// Whether this request was within the limit.
    pub admitted: bool,
}

impl Limit {
    /// # Errors
    /// The field that is out of range, and why.
    pub(crate) fn new(
        name: String,
        key: Vec<KeyPart>,
        quota: u32,
        window: Duration,
        burst: Option<u32>,
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
        let identity = format!("{name}/{requests}/{}/{burst}/{key:?}", window.as_nanos());
        let policy = format!("\"{name}\";q={requests};w={seconds}").into();
        Ok(Self {
            name,
            key,
            quota,
            stated: (requests.get(), seconds),
            policy,
            identity,
        })
    }

    pub(crate) fn policy(&self) -> &Rc<str> {
        &self.policy
    }

    pub(crate) fn report(&self, verdict: &Verdict) -> Report<'_> {
        let (quota, window) = self.stated;
        let (remaining, wait, admitted) = match verdict {
            Verdict::Admitted { remaining } => (*remaining, self.quota.replenish_interval(), true),
            Verdict::Exceeded { wait } => (0, *wait, false),
            Verdict::Unavailable => (0, Duration::ZERO, false),
        };
        let reset = wait
            .as_secs()
            .saturating_add(u64::from(wait.subsec_nanos() > 0))
            .max(1);
        Report {
            name: &self.name,
            quota,
            window,
            remaining,
            reset,
            admitted,
        }
    }
}

impl Report<'_> {
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

/// Counts in one table of the shared state.
#[derive(Debug)]
pub(crate) struct Limiter {
    table: Table,
}

impl Limiter {
    pub(crate) fn open(table: &'static str, state: &dyn SharedState, random: [u8; 16]) -> Self {
        Self {
            table: Table::open(table, state, random),
        }
    }

    /// Counts a request whose key has these parts.
    pub(crate) fn check<P: AsRef<[u8]>>(
        &self,
        limit: &Limit,
        parts: impl Iterator<Item = P>,
        ports: &Ports<'_>,
    ) -> Verdict {
        self.count(limit.quota, self.table.slot(&limit.identity, parts), ports)
    }

    /// Admits a key once in `window`.
    pub(crate) fn once(&self, parts: &[&str], window: Duration, ports: &Ports<'_>) -> Verdict {
        let Some(quota) = Quota::with_period(window) else {
            return Verdict::Admitted { remaining: 0 };
        };
        self.count(quota, self.table.slot("", parts.iter()), ports)
    }

    fn count(&self, quota: Quota, slot: Slot, ports: &Ports<'_>) -> Verdict {
        let clock = SharedClock(Cell::new(Nanos::from(0)));
        let store = Store {
            table: &self.table,
            ports,
            failed: Cell::new(false),
        };
        // A limiter counts from the moment it was made; made at zero, all workers count from the same origin.
        let limiter = RateLimiter::<_, _, _, StateInformationMiddleware>::new(quota, store, clock);
        let now = Nanos::from(ports.clock.monotonic());
        limiter.clock().0.set(now);
        let verdict = match limiter.check_key(&At {
            slot,
            now: now.as_u64(),
        }) {
            Ok(state) => Verdict::Admitted {
                remaining: state.remaining_burst_capacity(),
            },
            Err(until) => Verdict::Exceeded {
                wait: until.wait_time_from(now),
            },
        };
        if limiter.into_state_store().failed.get() {
            Verdict::Unavailable
        } else {
            verdict
        }
    }
}

/// A slot at the time of the request, in nanoseconds, which tells the slots that are spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct At {
    slot: Slot,
    now: u64,
}

/// The shared monotonic clock, read once a request.
struct SharedClock(Cell<Nanos>);

impl GovernorClock for SharedClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.get()
    }
}

/// governor's state store over the table.
struct Store<'a> {
    table: &'a Table,
    ports: &'a Ports<'a>,
    failed: Cell<bool>,
}

impl StateStore for Store<'_> {
    type Key = At;

    fn measure_and_replace<T, F, E>(&self, key: &At, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        match self.table.update(self.ports.state, key.slot, key.now, &decide) {
            Updated::Written { value, evicted } => {
                if evicted {
                    self.ports.metrics.note(&Event::Evicted);
                }
                Ok(value)
            }
            Updated::Refused(refused) => Err(refused),
            Updated::Unavailable => {
                self.failed.set(true);
                // The trait has no third answer: the verdict made of this one is not used.
                decide(Some(Nanos::from(key.now))).map(|(value, _)| value)
            }
        }
    }
}

#[cfg(test)]
mod tests;
