//! A map by SHA-256.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map whose keys are SHA-256 digests and need no further hashing.
pub(crate) type DigestMap<V> = HashMap<[u8; 32], V, BuildHasherDefault<FirstBytes>>;

/// A SHA-256 is already evenly spread and cannot be steered: its first bytes serve as the hash.
#[derive(Default)]
pub(crate) struct FirstBytes(u64);

impl Hasher for FirstBytes {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    // The length prefix of an array says nothing.
    fn write_usize(&mut self, _: usize) {}
}
