//! A hash map by digest.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map whose keys are digests, which need no further hashing. SHA-256 by default.
pub(crate) type DigestMap<V, const N: usize = 32> = HashMap<[u8; N], V, BuildHasherDefault<DigestHasher>>;

/// Uses the first bytes of a digest as its hash: a digest is evenly distributed, and cannot practically be chosen.
#[derive(Default)]
pub(crate) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // The length prefix of an array is the same for all keys.
    fn write_usize(&mut self, _: usize) {}
}
