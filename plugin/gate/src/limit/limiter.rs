//! Counting in the shared state. All limits of a request are weighed before the first is charged, so that a request that
//! one of them refuses is charged to none.

use std::time::Duration;

use super::{Limit, Standing, Unavailable};
use crate::ports::{Conflict, Event, Ports};
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
    /// The limit's index.
    limit: usize,
    place: Place,
    bucket: Bucket,
    now: u64,
    /// The key's next arrival time, or how long to wait.
    decision: Result<u64, Duration>,
}

/// A request that was charged.
#[derive(Debug, Clone)]
pub(crate) struct Charge {
    /// The limit's index.
    pub(crate) limit: usize,
    place: Place,
    arrival: u64,
}

/// What charging came to.
pub(crate) enum Charged {
    Done(Charge),
    /// Another worker was quicker, and nothing is left for this request.
    Exceeded(Weighed),
}

impl Weighed {
    /// How long to wait, if the request is over the limit.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.decision.err()
    }

    /// The limit's index.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Where the key stands while the request is not charged.
    pub(crate) fn standing(&self, limit: &Limit) -> Standing {
        limit.standing(self.bucket.get(&self.place), self.now)
    }
}

impl Charge {
    /// Where the key stands at `now`, on the shared clock.
    pub(crate) fn standing(&self, limit: &Limit, now: Duration) -> Standing {
        limit.standing(Some(self.arrival), nanos(now))
    }

    /// Where the key stood without this charge.
    pub(crate) fn standing_before(&self, limit: &Limit, now: Duration) -> Standing {
        let before = self.arrival.saturating_sub(limit.period());
        limit.standing(Some(before), nanos(now))
    }
}

impl Limiter {
    pub(crate) fn new(limits: &[Limit], seed: Seed) -> Self {
        let table = |limit: &Limit| Table::new("postern.limit", &[&limit.name], seed, BUCKETS, limit.keys);
        Self {
            tables: limits.iter().map(table).collect(),
        }
    }

    /// Weighs a request at `now`, on the shared clock, against the limit of this index; `parts` are its key's.
    pub(crate) fn weigh<P: AsRef<[u8]>>(
        &self,
        index: usize,
        limit: &Limit,
        parts: impl Iterator<Item = P>,
        now: Duration,
        ports: &Ports<'_>,
    ) -> Result<Weighed, Unavailable> {
        let table = self.tables.get(index).ok_or(Unavailable)?;
        let place = table.place(&limit.identity, parts);
        self.weigh_at(index, limit, place, nanos(now), ports)
    }

    fn weigh_at(
        &self,
        index: usize,
        limit: &Limit,
        place: Place,
        now: u64,
        ports: &Ports<'_>,
    ) -> Result<Weighed, Unavailable> {
        let table = self.tables.get(index).ok_or(Unavailable)?;
        let bucket = table.read(ports.state, &place).map_err(|_| Unavailable)?;
        let decision = limit.decide(bucket.get(&place), now);
        Ok(Weighed {
            limit: index,
            place,
            bucket,
            now,
            decision,
        })
    }

    /// Charges a request that was weighed.
    pub(crate) fn charge(
        &self,
        mut weighed: Weighed,
        limit: &Limit,
        ports: &Ports<'_>,
    ) -> Result<Charged, Unavailable> {
        let table = self.tables.get(weighed.limit).ok_or(Unavailable)?;
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
                        ports.metrics.note(&Event::Evicted);
                    }
                    return Ok(Charged::Done(Charge {
                        limit: weighed.limit,
                        place: weighed.place,
                        arrival,
                    }));
                }
                Err(Conflict) => {
                    weighed = self.weigh_at(weighed.limit, limit, weighed.place, weighed.now, ports)?;
                }
            }
        }
        Err(Unavailable)
    }

    /// Takes a charge back, because another limit refused the request. A key that was given up meanwhile has nothing to
    /// be taken back from.
    pub(crate) fn refund(&self, charge: &Charge, limit: &Limit, ports: &Ports<'_>) {
        let Some(table) = self.tables.get(charge.limit) else {
            return;
        };
        for _ in 0..ATTEMPTS {
            let Ok(mut bucket) = table.read(ports.state, &charge.place) else {
                return;
            };
            let Some(arrival) = bucket.get(&charge.place) else {
                return;
            };
            let before = arrival.saturating_sub(limit.period());
            bucket.put(&charge.place, before, table.ways());
            if table.write(ports.state, &charge.place, &bucket).is_ok() {
                return;
            }
        }
    }
}

/// Sets a key's arrival time. Slots whose time has passed say nothing and go. Where all others count, the one nearest to
/// having its whole quota back is given up: true.
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
