//! An issuer's key set (RFC 7517).

use serde::Deserialize;
use serde_json::{Map, Value};

use super::VerifyingKey;
use crate::config::Algorithm;

/// The members of a JWK that verifying a signature needs; certificates and the like are left behind, since the key
/// reader bounds a JWK's length.
const MEMBERS: [&str; 10] = ["kty", "crv", "x", "y", "n", "e", "alg", "use", "key_ops", "kid"];

/// No more keys than this are read from a set.
const MAX_KEYS: usize = 100;

/// The keys of one issuer, by algorithm and id.
#[derive(Debug, Default)]
pub(crate) struct KeySet(Vec<VerifyingKey>);

/// Why a document is no usable key set.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeySetError {
    /// It is not a JSON object with a list of `keys`.
    #[error("not a JSON Web Key Set: {0}")]
    Malformed(String),
    /// No key of it can verify any of the issuer's algorithms.
    #[error("no key in the set is a signature key for {0}")]
    NoneUsable(String),
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Map<String, Value>>,
}

impl KeySet {
    pub(crate) fn single(key: VerifyingKey) -> Self {
        Self(vec![key])
    }

    /// Reads a key set, keeping what can verify one of `algorithms`. A key without `alg` serves each of them that
    /// fits its type.
    pub(crate) fn from_json(text: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeySetError> {
        let document: Document =
            serde_json::from_slice(text).map_err(|e| KeySetError::Malformed(e.to_string()))?;
        let mut keys = Vec::new();
        for mut members in document.keys.into_iter().take(MAX_KEYS) {
            members.retain(|name, _| MEMBERS.contains(&name.as_str()));
            let kid = members.get("kid").and_then(Value::as_str).map(str::to_owned);
            let jwk = Value::Object(members).to_string();
            keys.extend(
                algorithms
                    .iter()
                    .filter_map(|a| VerifyingKey::from_jwk(&jwk, kid.clone(), *a)),
            );
        }
        if keys.is_empty() {
            let names: Vec<_> = algorithms.iter().map(|a| a.name()).collect();
            return Err(KeySetError::NoneUsable(names.join(", ")));
        }
        Ok(Self(keys))
    }

    /// The one key for a token's `alg` and `kid`. A token without `kid` is judged by the only key of its algorithm,
    /// and by none if there are several.
    pub(crate) fn find(&self, algorithm: Algorithm, kid: Option<&str>) -> Option<&VerifyingKey> {
        let mut candidates = self.0.iter().filter(|key| key.algorithm() == algorithm);
        match kid {
            Some(_) if algorithm == Algorithm::HS256 => candidates.next(),
            Some(kid) => candidates.find(|key| key.kid.as_deref() == Some(kid)),
            None => candidates.next().filter(|_| candidates.next().is_none()),
        }
    }
}
