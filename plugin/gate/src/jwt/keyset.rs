//! An issuer's key set (RFC 7517, section 5).

use serde::Deserialize;
use serde_json::{Map, Value};

use super::VerifyingKey;
use crate::config::Algorithm;

/// The members of a JWK that are needed to verify signatures. Others, such as certificates, are removed, because the
/// JWK parser limits the length.
const MEMBERS: [&str; 10] = ["kty", "crv", "x", "y", "n", "e", "alg", "use", "key_ops", "kid"];

/// The most keys that are read from a set.
const MAX_KEYS: usize = 100;

/// The most keys of one id that are tried for a token.
const MAX_CANDIDATES: usize = 4;

/// The keys of one issuer, by algorithm and id.
#[derive(Debug, Default)]
pub(crate) struct KeySet {
    keys: Vec<VerifyingKey>,
    /// Signature keys for the issuer's algorithms that cannot be used, and why.
    skipped: Vec<String>,
}

/// Why a document is not a usable key set.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum KeySetError {
    /// The document is not a JSON object with a list of `keys`.
    #[error("not a JSON Web Key Set: {0}")]
    Malformed(String),
    /// No key of the set can verify any of the issuer's algorithms.
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

    /// Parses a key set. Keeps the keys that can verify one of `algorithms`; a key without `alg` is used for each of
    /// them that fits its type. Other entries are skipped without affecting the rest (RFC 7517, section 5).
    pub(crate) fn from_json(text: &[u8], algorithms: &[Algorithm]) -> Result<Self, KeySetError> {
        let document: Document =
            serde_json::from_slice(text).map_err(|e| KeySetError::Malformed(e.to_string()))?;
        let (mut keys, mut skipped) = (Vec::new(), Vec::new());
        for entry in document.keys.into_iter().take(MAX_KEYS) {
            let Value::Object(mut members) = entry else {
                continue;
            };
            // Members that are `null` count as absent.
            members.retain(|name, value| MEMBERS.contains(&name.as_str()) && !value.is_null());
            let kid = members.get("kid").and_then(Value::as_str).map(str::to_owned);
            let problem = rsa_problem(&members, algorithms);
            let jwk = Value::Object(members).to_string();
            let before = keys.len();
            keys.extend(
                algorithms
                    .iter()
                    .filter_map(|a| VerifyingKey::from_jwk(&jwk, kid.clone(), *a)),
            );
            if keys.len() == before {
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

    /// Signature keys for the issuer's algorithms that cannot be used, and why.
    pub(crate) fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The keys that may have signed a token with this `alg` and `kid`: those of its id, which may be several if the
    /// issuer reuses ids. For a token without `kid`, the only key of its algorithm, and none if there are several.
    /// The same applies to a token with a `kid` if the keys have none.
    pub(crate) fn candidates(&self, algorithm: Algorithm, kid: Option<&str>) -> Vec<&VerifyingKey> {
        let of_algorithm = || self.keys.iter().filter(|key| key.algorithm() == algorithm);
        let Some(kid) = kid.filter(|_| algorithm != Algorithm::HS256) else {
            return only(of_algorithm()).into_iter().collect();
        };
        let named: Vec<_> = of_algorithm()
            .filter(|key| key.kid.as_deref() == Some(kid))
            .take(MAX_CANDIDATES)
            .collect();
        if named.is_empty() {
            return only(of_algorithm())
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

/// Why an RSA key for one of `algorithms` cannot be used, where operators should know: exponents other than 65537 and
/// moduli over 4096 bits are valid RSA, but not supported here.
fn rsa_problem(members: &Map<String, Value>, algorithms: &[Algorithm]) -> Option<String> {
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let rsa = |algorithm: &Algorithm| algorithm.name().starts_with(['R', 'P']);
    if text("kty") != Some("RSA") || text("use") == Some("enc") || !algorithms.iter().any(rsa) {
        return None;
    }
    let key = format!("the RSA key {:?}", text("kid").unwrap_or_default());
    if text("e").is_some_and(|e| e != "AQAB") {
        return Some(format!("{key} is skipped: its exponent is not 65537"));
    }
    // A base64 character holds six bits.
    let bits = text("n")?.len().saturating_mul(6);
    if bits > 4_096 + 16 {
        return Some(format!("{key} is skipped: its modulus has more than 4096 bits"));
    }
    (bits < 2_048).then(|| format!("{key} is skipped: its modulus has fewer than 2048 bits"))
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
    fn candidate_keys_for_a_token() {
        let (a, b, none) = (jwk(Some("a")), jwk(Some("b")), jwk(None));
        let (a, b, none) = (&a, &b, &none);
        for (case, keys, kid, count) in [
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
            assert_eq!(found(&keys, kid), count, "{case}");
        }
    }

    #[test]
    fn unusable_entries_are_skipped() {
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
    fn an_unsupported_rsa_key_is_reported() {
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
            ("s".repeat(1_366), "AQAB", "more than 4096"),
            ("s".repeat(171), "AQAB", "fewer than 2048"),
        ] {
            let set = set(&n, e);
            assert!(
                matches!(set.skipped(), [warning] if warning.contains(why)),
                "{set:?}"
            );
        }
    }
}
