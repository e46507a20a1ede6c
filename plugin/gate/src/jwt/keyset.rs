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

/// No more keys of one id are tried for a token.
const MAX_CANDIDATES: usize = 4;

/// The keys of one issuer, by algorithm and id.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    keys: Vec<VerifyingKey>,
    /// Signature keys of the issuer's algorithms that cannot be used, and why.
    skipped: Vec<String>,
}

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
    keys: Vec<Value>,
}

impl KeySet {
    pub(crate) fn single(key: VerifyingKey) -> Self {
        Self {
            keys: vec![key],
            skipped: Vec::new(),
        }
    }

    /// Reads a key set, keeping what can verify one of `algorithms`. A key without `alg` serves each of them that
    /// fits its type. An entry that is no such key is passed over alone (RFC 7517, section 5).
    pub(crate) fn from_json(text: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeySetError> {
        let document: Document =
            serde_json::from_slice(text).map_err(|e| KeySetError::Malformed(e.to_string()))?;
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for entry in document.keys.into_iter().take(MAX_KEYS) {
            let Value::Object(mut members) = entry else {
                continue;
            };
            // What is `null` is not said.
            members.retain(|name, value| MEMBERS.contains(&name.as_str()) && !value.is_null());
            let kid = members.get("kid").and_then(Value::as_str).map(str::to_owned);
            let problem = rsa_problem(&members, algorithms);
            let jwk = Value::Object(members).to_string();
            let held = keys.len();
            keys.extend(
                algorithms
                    .iter()
                    .filter_map(|a| VerifyingKey::from_jwk(&jwk, kid.clone(), *a)),
            );
            if keys.len() == held {
                skipped.extend(problem);
            }
        }
        if keys.is_empty() {
            let names: Vec<_> = algorithms.iter().map(|a| a.name()).collect();
            let why = skipped.iter().map(|why| format!("; {why}"));
            return Err(KeySetError::NoneUsable(
                std::iter::once(names.join(", ")).chain(why).collect(),
            ));
        }
        Ok(Self { keys, skipped })
    }

    /// Signature keys of the issuer's algorithms that cannot be used, and why.
    pub(crate) fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The keys that a token of this `alg` and `kid` may have been signed with: those of its id, more than one if the
    /// issuer gave it to several. A token without `kid` is judged by the only key of its algorithm, and by none if there
    /// are several; so is one with a `kid`, where keys have none.
    pub(crate) fn candidates(&self, algorithm: Algorithm, kid: Option<&str>) -> Vec<&VerifyingKey> {
        let fitting = || self.keys.iter().filter(|key| key.algorithm() == algorithm);
        let Some(kid) = kid.filter(|_| algorithm != Algorithm::HS256) else {
            return only(fitting()).into_iter().collect();
        };
        let named: Vec<_> = fitting()
            .filter(|key| key.kid.as_deref() == Some(kid))
            .take(MAX_CANDIDATES)
            .collect();
        if named.is_empty() {
            return only(fitting())
                .filter(|key| key.kid.is_none())
                .into_iter()
                .collect();
        }
        named
    }
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

/// Why an RSA key that is meant for one of `algorithms` cannot be used, as far as that is worth a word to operators:
/// other exponents than 65537 and moduli over 4096 bits are sound RSA, and not taken here.
fn rsa_problem(members: &Map<String, Value>, algorithms: &[Algorithm]) -> Option<String> {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let rsa = |algorithm: &Algorithm| algorithm.name().starts_with(['R', 'P']);
    if text("kty") != Some("RSA") || text("use") == Some("enc") || !algorithms.iter().any(rsa) {
        return None;
    }
    let key = format!("the RSA key {:?}", text("kid").unwrap_or_default());
    if text("e").is_some_and(|e| e != "AQAB") {
        return Some(format!("{key} is passed over: its exponent is not 65537"));
    }
    // Four characters of base64 for three bytes.
    let bits = text("n")?.len().saturating_mul(6);
    if bits > 4_096 + 16 {
        return Some(format!("{key} is passed over: its modulus has over 4096 bits"));
    }
    (bits < 2_048).then(|| format!("{key} is passed over: its modulus has under 2048 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jwt_simple::prelude::Ed25519KeyPair;
    use serde_json::json;

    fn jwk(kid: Option<&str>) -> Value {
        let key: Value = serde_json::from_str(&Ed25519KeyPair::generate().public_key().to_jwk()).unwrap();
        let mut key = key;
        key["kid"] = json!(kid);
        key
    }

    fn found(keys: &[Value], kid: Option<&str>) -> usize {
        let set = json!({"keys": keys}).to_string();
        let set = KeySet::from_json(set.as_bytes(), &[Algorithm::EdDSA]).unwrap();
        set.candidates(Algorithm::EdDSA, kid).len()
    }

    #[test]
    fn the_keys_a_token_may_be_signed_with() {
        let (a, b, none) = (jwk(Some("a")), jwk(Some("b")), jwk(None));
        let (a, b, none) = (&a, &b, &none);
        for (what, keys, kid, count) in [
            ("its own", vec![a, b], Some("a"), 1),
            ("two of one id", vec![a, b, a], Some("a"), 2),
            ("five of one id", vec![a, a, a, a, a], Some("a"), MAX_CANDIDATES),
            ("of another id", vec![a], Some("b"), 0),
            ("no id, one key", vec![a], None, 1),
            ("no id, two keys", vec![a, b], None, 0),
            ("an id, and the only key has none", vec![none], Some("a"), 1),
            ("an id, and two keys have none", vec![none, none], Some("a"), 0),
            ("an id, and one of two keys has none", vec![none, b], Some("a"), 0),
        ] {
            let keys: Vec<Value> = keys.into_iter().cloned().collect();
            assert_eq!(found(&keys, kid), count, "{what}");
        }
    }

    #[test]
    fn odd_entries_are_passed_over_alone() {
        let mut stated_null = jwk(Some("a"));
        stated_null["use"] = Value::Null;
        stated_null["alg"] = Value::Null;
        for odd in [
            Value::Null,
            json!(7),
            json!("key"),
            json!([]),
            json!({}),
            json!({"kty": "oct", "k": "AAAA"}),
            json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "a"}),
            json!({"kty": "OKP", "crv": "X25519", "x": "AAAA", "kid": 7}),
        ] {
            assert_eq!(found(&[odd.clone(), stated_null.clone()], Some("a")), 1, "{odd}");
        }
    }

    #[test]
    fn an_rsa_key_that_is_not_taken_is_named() {
        let set = |n: &str, e: &str| {
            let rsa = json!({"kty": "RSA", "kid": "k", "n": n, "e": e});
            KeySet::from_json(
                json!({"keys": [rsa, jwk(Some("a"))]}).to_string().as_bytes(),
                &[Algorithm::RS256, Algorithm::EdDSA],
            )
            .unwrap()
        };
        for (n, e, why) in [
            ("s".repeat(342), "Aw", "exponent"),
            ("s".repeat(1_366), "AQAB", "over 4096"),
            ("s".repeat(171), "AQAB", "under 2048"),
        ] {
            let set = set(&n, e);
            assert!(
                matches!(set.skipped(), [exposed] if exposed.contains(why)),
                "{set:?}"
            );
        }
    }
}
