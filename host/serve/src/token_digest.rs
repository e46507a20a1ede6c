//! Bearer tokens, as servers keep them.

use http::HeaderMap;
use sha2::{Digest as _, Sha256};

use crate::bearer::{BearerToken, bearer_token};

/// The SHA-256 of a bearer token. Servers keep and compare digests: how long that takes says nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// The digest of the token that a request shows; `None`, if it shows none or more than one.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        match bearer_token(headers) {
            BearerToken::Bearer(token) => Some(Self::of(token)),
            BearerToken::None | BearerToken::Invalid => None,
        }
    }
}

impl From<[u8; 32]> for TokenDigest {
    fn from(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}
