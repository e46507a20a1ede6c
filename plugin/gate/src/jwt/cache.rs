//! A cache of verified tokens by their SHA-256, so that the next request with the same token needs no signature
//! verification.

use std::rc::Rc;

use super::VerifiedToken;
use crate::digest_map::DigestMap;

/// The SHA-256 of a token.
pub(crate) type Fingerprint = [u8; 32];

/// A bounded cache of two generations. When the young generation is full, it replaces the old one, which is dropped.
/// A hit in the old generation moves the token to the young one. So tokens in use stay, and eviction needs no search.
#[derive(Debug)]
pub(crate) struct TokenCache {
    capacity: usize,
    young: TokenMap,
    old: TokenMap,
}

type TokenMap = DigestMap<Rc<VerifiedToken>>;

impl TokenCache {
    /// An empty cache for at most twice `capacity` tokens.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            young: TokenMap::default(),
            old: TokenMap::default(),
        }
    }

    pub(crate) fn get(&mut self, token: &Fingerprint) -> Option<Rc<VerifiedToken>> {
        if let Some(found) = self.young.get(token) {
            return Some(Rc::clone(found));
        }
        let found = self.old.remove(token)?;
        self.put(*token, Rc::clone(&found));
        Some(found)
    }

    pub(crate) fn put(&mut self, token: Fingerprint, verified: Rc<VerifiedToken>) {
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, verified);
    }

    pub(crate) fn remove(&mut self, token: &Fingerprint) {
        self.young.remove(token);
        self.old.remove(token);
    }

    pub(crate) fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}
