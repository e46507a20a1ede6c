//! API keys, known by their SHA-256 only.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::Reason;
use crate::digest_map::DigestMap;
use crate::identity::Identity;
use crate::request::{Request, Single};

/// Longer values are no API keys and are not hashed.
const MAX_KEY: usize = 1024;

/// A set of API keys, compiled.
#[derive(Debug)]
pub(crate) struct ApiKeys {
    /// `api_keys/<name>`.
    pub(crate) label: String,
    pub(crate) header: String,
    /// By digest: finding one costs the same whatever the key, and a digest says nothing of its key.
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
    /// The holder of the key in the request; `None` if it carries no key. `now`: time since the Unix epoch.
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

/// The digests of configured keys that were presented, so that the next request with the same key needs no SHA-256,
/// half of what looking a key up costs inside the VM.
///
/// A key is known again by two SipHashes under secrets that were drawn for this process: 128 bits that nobody outside
/// can aim at. No key is kept, and there is never more here than keys are configured.
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
