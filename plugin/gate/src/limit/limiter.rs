//! Counting in the shared state. All limits of a request are weighed before the first is charged, so that a request that
//! one of them refuses is charged to none.

use std::rc::Rc;
use std::time::Duration;

use super::{Limit, Standing, Unavailable};
use crate::ports::{Conflict, Observation, Ports};
use crate::table::{ATTEMPTS, Bucket, Place, Seed, Table};

/// Buckets of a limit's table. They never change; how many keys each may hold is for the limit to say.
pub(super) const BUCKETS: u32 = 4_096;

/// Counts in one table for each limit.
#[derive(Debug)]
pub(crate) struct Limiter {
    tables: Vec<Table>,
}

/// A request weighed against one limit, and not charged yet.
#[derive(Debug)]
pub(crate) struct Weighed {
    limit: Rc<Limit>,
    place: Place,
    bucket: Bucket,
    now: u64,
    /// The key's next arrival time, or how long to wait.
    decision: Result<u64, Duration>,
}

/// A request that was charged.
#[derive(Debug, Clone)]
pub(crate) struct Charge {
    limit: Rc<Limit>,
    place: Place,
    arrival: u64,
}

/// The result of a charge.
pub(crate) enum Charged {
    Done(Charge),
    /// Another worker was faster, and the limit has nothing left for this request.
    Exceeded(Weighed),
}

impl Weighed {
    /// How long to wait, if the request is over the limit.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.decision.err()
    }

    pub(crate) fn limit(&self) -> &Limit {
        &self.limit
    }

    /// The key's state without this request.
    pub(crate) fn standing(&self) -> Standing {
        self.limit.standing(self.bucket.get(&self.place), self.now)
    }
}

impl Charge {
    pub(crate) fn limit(&self) -> &Limit {
        &self.limit
    }

    /// The key's state at `now`, on the shared clock.
    pub(crate) fn standing(&self, now: Duration) -> Standing {
        self.limit.standing(Some(self.arrival), nanos(now))
    }

    /// The key's state at `now` without this charge.
    pub(crate) fn standing_before(&self, now: Duration) -> Standing {
        let before = self.arrival.saturating_sub(self.limit.period());
        self.limit.standing(Some(before), nanos(now))
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

    /// Weighs a request at `now`, on the shared clock, against a limit; `parts` make up the request's key.
    pub(crate) fn weigh<P: AsRef<[u8]>>(
        &self,
        limit: &Rc<Limit>,
        parts: impl Iterator<Item = P>,
        now: Duration,
        ports: &Ports<'_>,
    ) -> Result<Weighed, Unavailable> {
        let place = self.table(limit)?.place(&limit.identity, parts);
        self.weigh_at(Rc::clone(limit), place, nanos(now), ports)
    }

    fn table(&self, limit: &Limit) -> Result<&Table, Unavailable> {
        self.tables.get(limit.id.index()).ok_or(Unavailable)
    }

    fn weigh_at(
        &self,
        limit: Rc<Limit>,
        place: Place,
        now: u64,
        ports: &Ports<'_>,
    ) -> Result<Weighed, Unavailable> {
        let bucket = self
            .table(&limit)?
            .read(ports.state, &place)
            .map_err(|_| Unavailable)?;
        let decision = limit.decide(bucket.get(&place), now);
        Ok(Weighed {
            limit,
            place,
            bucket,
            now,
            decision,
        })
    }

    /// Charges a request that was weighed.
    pub(crate) fn charge(&self, mut weighed: Weighed, ports: &Ports<'_>) -> Result<Charged, Unavailable> {
        let limit = Rc::clone(&weighed.limit);
        let table = self.table(&limit)?;
        for _ in 0..ATTEMPTS {
            let Ok(arrival) = weighed.decision else {
                return Ok(Charged::Exceeded(weighed));
            };
            let evicted = put(
                &mut weighed.bucket,
                &weighed.place,
                arrival,
                weighed.now,
                table.ways(),
            );
            match table.write(ports.state, &weighed.place, &weighed.bucket) {
                Ok(()) => {
                    if evicted {
                        ports.observer.observe(&Observation::Evicted);
                    }
                    return Ok(Charged::Done(Charge {
                        limit,
                        place: weighed.place,
                        arrival,
                    }));
                }
                Err(Conflict) => {
                    weighed = self.weigh_at(weighed.limit, weighed.place, weighed.now, ports)?;
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
            let Ok(mut bucket) = table.read(ports.state, &charge.place) else {
                return;
            };
            let Some(arrival) = bucket.get(&charge.place) else {
                return;
            };
            let before = arrival.saturating_sub(charge.limit.period());
            bucket.put(&charge.place, before, table.ways());
            if table.write(ports.state, &charge.place, &bucket).is_ok() {
                return;
            }
        }
    }
}

/// Sets a key's arrival time. Slots whose time has passed are removed. If the bucket is still full, the key nearest to
/// its whole quota is evicted: true.
fn put(bucket: &mut Bucket, place: &Place, arrival: u64, now: u64, ways: usize) -> bool {
    bucket.slots().retain(|(_, due)| *due > now);
    if bucket.put(place, arrival, ways) {
        return false;
    }
    let slots = bucket.slots();
    let nearest = slots.iter().enumerate().min_by_key(|(_, (_, due))| *due);
    if let Some((index, _)) = nearest {
        slots.swap_remove(index);
    }
    bucket.put(place, arrival, usize::MAX);
    true
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
