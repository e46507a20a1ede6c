//! Digests of bearer tokens.

use http::HeaderMap;
use sha2::{Digest as _, Sha256};

use crate::bearer::{BearerToken, bearer_token};

/// The SHA-256 of a bearer token. Servers store and compare digests, so that the timing of a comparison reveals nothing
/// about the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// The digest of a token.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// The digest of a request's bearer token; `None` without exactly one.
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
