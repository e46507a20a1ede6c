//! The memory of nonces: a signed request passes once, as long as its timestamp could pass.
//!
//! Each signing key has a table of its own, so that who fills one harms nobody else's, and only who holds the key's
//! secret can fill it.
//!
//! 1. A nonce is kept with its timestamp, in seconds since the Unix epoch, until that timestamp is too old to pass.
//! 2. A bucket remembers the latest timestamp of which it has dropped a nonce. What is not later might have come before,
//!    and is refused. So nothing passes twice, whatever the clock does and however an update changes the skew.
//! 3. A bucket that is full of nonces that could come again drops none: the request is refused.

use std::time::Duration;

use crate::Reason;
use crate::ports::Ports;
use crate::table::{ATTEMPTS, Bucket, Seed, Table};

/// Buckets of a key's table. They never change; how many nonces each may hold is for the configuration to say.
const BUCKETS: u32 = 1_024;

/// How many nonces of one key the configuration may ask to be kept.
pub(crate) const NONCES: std::ops::RangeInclusive<u32> = 1_024..=1_048_576;

/// The fingerprint under which a bucket keeps the latest timestamp that it has dropped: no key's.
const DROPPED: u64 = 0;

/// The nonces of all signing keys.
#[derive(Debug)]
pub(crate) struct NonceStore {
    seed: Seed,
}

/// A signed request's part in it.
#[derive(Debug)]
pub(crate) struct NonceUse<'a> {
    /// `signatures/<name>`.
    pub(crate) entry: &'a str,
    pub(crate) key_id: &'a str,
    pub(crate) nonce: &'a str,
    /// Seconds since the Unix epoch.
    pub(crate) timestamp: u64,
    /// How far a timestamp may be from the clock.
    pub(crate) max_skew: Duration,
    /// How many nonces of the key are kept at the most.
    pub(crate) capacity: u32,
}

impl NonceStore {
    pub(crate) fn new(seed: Seed) -> Self {
        Self { seed }
    }

    /// Takes down the use of a nonce.
    ///
    /// # Errors
    /// Why the request must not pass: the nonce was used, its timestamp is too old to know, or it cannot be kept.
    pub(crate) fn record(&self, used: &NonceUse<'_>, ports: &Ports<'_>) -> Result<(), Reason> {
        let name = [used.entry, used.key_id];
        let table = Table::new("postern.nonce", &name, self.seed, BUCKETS, used.capacity);
        let location = table.locate("", [used.nonce].iter());
        let now = ports.clock.wall();
        for _ in 0..ATTEMPTS {
            let mut bucket = table
                .read(ports.state, &location)
                .map_err(|_| Reason::LimitUnavailable)?;
            if bucket.get(&location).is_some() {
                return Err(Reason::SignatureReplayed);
            }
            if bucket
                .find(DROPPED)
                .is_some_and(|dropped| used.timestamp <= dropped)
            {
                return Err(Reason::SignatureSkew);
            }
            drop_old(&mut bucket, now, used.max_skew);
            // What was dropped takes no nonce's slot.
            let slots_per_bucket = table
                .slots_per_bucket()
                .saturating_add(usize::from(bucket.find(DROPPED).is_some()));
            if !bucket.put(&location, used.timestamp, slots_per_bucket) {
                return Err(Reason::ReplayMemoryFull);
            }
            if table.write(ports.state, &location, &bucket).is_ok() {
                return Ok(());
            }
        }
        Err(Reason::LimitUnavailable)
    }
}

/// Drops the nonces whose timestamps are too old to pass, and keeps the latest of these.
fn drop_old(bucket: &mut Bucket, now: Duration, max_skew: Duration) {
    let mut dropped = bucket.find(DROPPED);
    bucket.slots().retain(|(fingerprint, timestamp)| {
        let old = now.saturating_sub(Duration::from_secs(*timestamp)) > max_skew;
        if old {
            dropped = dropped.max(Some(*timestamp));
        }
        *fingerprint != DROPPED && !old
    });
    bucket
        .slots()
        .extend(dropped.map(|timestamp| (DROPPED, timestamp)));
}

#[cfg(test)]
mod tests;
