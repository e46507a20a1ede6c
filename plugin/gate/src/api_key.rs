//! API keys, stored as SHA-256 digests.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::Reason;
use crate::digest_map::DigestMap;
use crate::identity::Identity;
use crate::request::{Request, Single};

/// The longest API key, in bytes. Longer values are not hashed.
const MAX_KEY: usize = 1024;

/// A set of API keys, compiled.
#[derive(Debug)]
pub(crate) struct ApiKeys {
    /// `api_keys/<name>`.
    pub(crate) label: String,
    pub(crate) header: String,
    /// By digest: a lookup takes the same time for every key, and a digest reveals nothing about its key.
    pub(crate) keys: DigestMap<KeyEntry>,
    pub(crate) digest_cache: DigestCache,
}

#[derive(Debug)]
pub(crate) struct KeyEntry {
    pub(crate) identity: Rc<Identity>,
    pub(crate) not_after: Option<Duration>,
}

impl KeyEntry {
    pub(crate) fn new(identity: Identity, not_after: Option<Duration>) -> Self {
        Self {
            identity: Rc::new(identity),
            not_after,
        }
    }
}

impl ApiKeys {
    /// The holder of the request's API key; `None` if the request carries none. `now` returns the time since the Unix
    /// epoch.
    pub(crate) fn verify(
        &self,
        request: &Request<'_>,
        now: impl FnOnce() -> Duration,
    ) -> Option<Result<Rc<Identity>, Reason>> {
        match request.credential(&self.header) {
            Single::Absent => None,
            Single::Multiple => Some(Err(Reason::CredentialsAmbiguous)),
            Single::One(key) => Some(self.look_up(key, now)),
        }
    }

    fn look_up(&self, key: &[u8], now: impl FnOnce() -> Duration) -> Result<Rc<Identity>, Reason> {
        if key.len() > MAX_KEY {
            return Err(Reason::ApiKeyUnknown);
        }
        let tag = self.digest_cache.tag(key);
        let known = self.digest_cache.get(&tag);
        let digest = known.unwrap_or_else(|| Sha256::digest(key).into());
        let record = self.keys.get(&digest).ok_or(Reason::ApiKeyUnknown)?;
        if known.is_none() {
            self.digest_cache.put(tag, digest);
        }
        match record.not_after {
            Some(end) if now() >= end => Err(Reason::ApiKeyExpired),
            _ => Ok(Rc::clone(&record.identity)),
        }
    }
}

/// A cache of the digests of configured keys that were presented. The next request with the same key needs no
/// SHA-256, which is half the cost of a lookup inside the VM.
///
/// Keys are identified by two SipHashes with random secrets of this process: 128 bits for which no outsider can find
/// a collision. Keys themselves are not stored, and the cache never has more entries than configured keys.
#[derive(Debug, Default)]
pub(crate) struct DigestCache {
    hashers: [RandomState; 2],
    digests: RefCell<DigestMap<[u8; 32], 16>>,
}

impl DigestCache {
    fn tag(&self, key: &[u8]) -> [u8; 16] {
        let [first, second] = &self.hashers;
        let tag = u128::from(first.hash_one(key)) | u128::from(second.hash_one(key)) << 64;
        tag.to_le_bytes()
    }

    fn get(&self, tag: &[u8; 16]) -> Option<[u8; 32]> {
        self.digests.borrow().get(tag).copied()
    }

    fn put(&self, tag: [u8; 16], digest: [u8; 32]) {
        self.digests.borrow_mut().insert(tag, digest);
    }
}
