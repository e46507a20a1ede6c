//! Replay protection: stores the nonces of signed requests, so that each request is accepted once while its timestamp
//! is valid.
//!
//! Each signing key has its own table, which only holders of its secret can fill, so that this does not affect other
//! keys.
//!
//! 1. A nonce is stored with its timestamp, in seconds since the Unix epoch, until that timestamp is too old to be
//!    valid.
//! 2. A bucket stores the latest timestamp of the nonces that it dropped. A request whose timestamp is not later may
//!    have been accepted before, and is refused. So no request is accepted twice, whatever the clock does, and even
//!    if a new configuration changes the skew.
//! 3. A bucket that is full of nonces that could be replayed drops none: the request is refused.

use std::time::Duration;

use crate::Reason;
use crate::ports::Ports;
use crate::table::{ATTEMPTS, Bucket, Seed, Table};

/// The number of buckets in a key's table, which never changes. The configured number of nonces determines their
/// size.
const BUCKETS: u32 = 1_024;

/// The configurable range of the number of nonces that are stored for one key.
pub(crate) const NONCES: std::ops::RangeInclusive<u32> = 1_024..=1_048_576;

/// The reserved fingerprint under which a bucket stores the latest timestamp that it dropped.
const DROPPED: u64 = 0;

/// The nonces of all signing keys.
#[derive(Debug)]
pub(crate) struct NonceStore {
    seed: Seed,
}

/// The use of a nonce by a signed request.
#[derive(Debug)]
pub(crate) struct NonceUse<'a> {
    /// `signatures/<name>`.
    pub(crate) entry: &'a str,
    pub(crate) key_id: &'a str,
    pub(crate) nonce: &'a str,
    /// Seconds since the Unix epoch.
    pub(crate) timestamp: u64,
    /// The allowed difference between the timestamp and the clock.
    pub(crate) max_skew: Duration,
    /// The most nonces that are stored for the key.
    pub(crate) capacity: u32,
}

impl NonceStore {
    pub(crate) fn new(seed: Seed) -> Self {
        Self { seed }
    }

    /// Records the use of a nonce.
    ///
    /// # Errors
    /// The reason to refuse the request: the nonce was used, its timestamp is not later than those of dropped nonces,
    /// or it cannot be stored.
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
            // The dropped timestamp does not take the slot of a nonce.
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

/// Drops the nonces whose timestamps are too old to be valid, and stores the latest of these.
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
