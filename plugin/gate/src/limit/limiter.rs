//! Counts requests in the shared state. All limits of a request are checked before the first is charged, so that a
//! request that one of them refuses is charged to none.

use std::rc::Rc;
use std::time::Duration;

use super::{Limit, LimitState, Unavailable};
use crate::ports::{Conflict, Observation, Ports};
use crate::table::{ATTEMPTS, Bucket, Location, Seed, Table};

/// The number of buckets in a limit's table, which never changes. The limit's number of keys determines their size.
pub(super) const BUCKETS: u32 = 4_096;

/// The limiter, with one table for each limit.
#[derive(Debug)]
pub(crate) struct Limiter {
    tables: Vec<Table>,
}

/// A request that was checked against one limit, and is not charged yet.
#[derive(Debug)]
pub(crate) struct LimitCheck {
    limit: Rc<Limit>,
    location: Location,
    bucket: Bucket,
    now: u64,
    /// The key's next arrival time, or how long to wait.
    decision: Result<u64, Duration>,
}

/// A request that was charged to a limit.
#[derive(Debug, Clone)]
pub(crate) struct Charge {
    limit: Rc<Limit>,
    location: Location,
    arrival: u64,
}

/// The result of a charge.
pub(crate) enum ChargeResult {
    Done(Charge),
    /// Another worker was faster, and the limit has no quota left for this request.
    Exceeded(LimitCheck),
}

impl LimitCheck {
    /// How long to wait, if the request is over the limit.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.decision.err()
    }

    pub(crate) fn limit(&self) -> &Limit {
        &self.limit
    }

    /// The key's state without this request.
    pub(crate) fn state(&self) -> LimitState {
        self.limit.state(self.bucket.get(&self.location), self.now)
    }
}

impl Charge {
    pub(crate) fn limit(&self) -> &Limit {
        &self.limit
    }

    /// The key's state at `now`, on the shared clock.
    pub(crate) fn state(&self, now: Duration) -> LimitState {
        self.limit.state(Some(self.arrival), nanos(now))
    }

    /// The key's state at `now` without this charge.
    pub(crate) fn state_before(&self, now: Duration) -> LimitState {
        let before = self.arrival.saturating_sub(self.limit.period());
        self.limit.state(Some(before), nanos(now))
    }
}

impl Limiter {
    pub(crate) fn new(limits: &[Rc<Limit>], seed: Seed) -> Self {
        let table =
            |limit: &Rc<Limit>| Table::new("postern.limit", &[&limit.name], seed, BUCKETS, limit.keys);
        Self {
            tables: limits.iter().map(table).collect(),
        }
    }

    /// Checks a request at `now`, on the shared clock, against a limit. `parts` are the parts of the request's key.
    pub(crate) fn check<P: AsRef<[u8]>>(
        &self,
        limit: &Rc<Limit>,
        parts: impl Iterator<Item = P>,
        now: Duration,
        ports: &Ports<'_>,
    ) -> Result<LimitCheck, Unavailable> {
        let location = self.table(limit)?.locate(&limit.identity, parts);
        self.check_at(Rc::clone(limit), location, nanos(now), ports)
    }

    fn table(&self, limit: &Limit) -> Result<&Table, Unavailable> {
        self.tables.get(limit.id.index()).ok_or(Unavailable)
    }

    fn check_at(
        &self,
        limit: Rc<Limit>,
        location: Location,
        now: u64,
        ports: &Ports<'_>,
    ) -> Result<LimitCheck, Unavailable> {
        let bucket = self
            .table(&limit)?
            .read(ports.state, &location)
            .map_err(|_| Unavailable)?;
        let decision = limit.decide(bucket.get(&location), now);
        Ok(LimitCheck {
            limit,
            location,
            bucket,
            now,
            decision,
        })
    }

    /// Charges a request that was checked.
    pub(crate) fn charge(
        &self,
        mut check: LimitCheck,
        ports: &Ports<'_>,
    ) -> Result<ChargeResult, Unavailable> {
        let limit = Rc::clone(&check.limit);
        let table = self.table(&limit)?;
        for _ in 0..ATTEMPTS {
            let Ok(arrival) = check.decision else {
                return Ok(ChargeResult::Exceeded(check));
            };
            let evicted = put(
                &mut check.bucket,
                &check.location,
                arrival,
                check.now,
                table.slots_per_bucket(),
            );
            match table.write(ports.state, &check.location, &check.bucket) {
                Ok(()) => {
                    if evicted {
                        ports.observer.observe(&Observation::Evicted);
                    }
                    return Ok(ChargeResult::Done(Charge {
                        limit,
                        location: check.location,
                        arrival,
                    }));
                }
                Err(Conflict) => {
                    check = self.check_at(check.limit, check.location, check.now, ports)?;
                }
            }
        }
        Err(Unavailable)
    }

    /// Refunds a charge, because another limit refused the request. A key that was evicted meanwhile needs no refund.
    pub(crate) fn refund(&self, charge: &Charge, ports: &Ports<'_>) {
        let Ok(table) = self.table(&charge.limit) else {
            return;
        };
        for _ in 0..ATTEMPTS {
            let Ok(mut bucket) = table.read(ports.state, &charge.location) else {
                return;
            };
            let Some(arrival) = bucket.get(&charge.location) else {
                return;
            };
            let before = arrival.saturating_sub(charge.limit.period());
            bucket.put(&charge.location, before, table.slots_per_bucket());
            if table.write(ports.state, &charge.location, &bucket).is_ok() {
                return;
            }
        }
    }
}

/// Sets a key's arrival time, and removes slots whose time has passed. If the bucket is still full, evicts the key
/// that is closest to its full quota, and returns true.
fn put(bucket: &mut Bucket, location: &Location, arrival: u64, now: u64, slots_per_bucket: usize) -> bool {
    bucket.slots().retain(|(_, due)| *due > now);
    if bucket.put(location, arrival, slots_per_bucket) {
        return false;
    }
    let slots = bucket.slots();
    let nearest = slots.iter().enumerate().min_by_key(|(_, (_, due))| *due);
    if let Some((index, _)) = nearest {
        slots.swap_remove(index);
    }
    bucket.put(location, arrival, usize::MAX);
    true
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
