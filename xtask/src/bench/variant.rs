//! The benchmark variants: an Envoy configuration, the requests sent to it, and its peers.

use postern_testbed::idp::{Alg, IdentityProvider};
use postern_testbed::sign::api_key_digest;
use postern_testbed::tokens;
use serde_json::{Value, json};

/// The same keys as in benches/envoy/native-key-limit.yaml, so that both sides look up among as many.
const KEYS: [(&str, &str); 4] = [
    ("ci", "bench-key"),
    ("partner", "bench-key-partner"),
    ("mobile", "bench-key-mobile"),
    ("batch", "bench-key-batch"),
];
/// As in benches/envoy/native-jwt.yaml.
const ISSUER: &str = "https://idp.example";
const AUDIENCE: &str = "api";
/// Variants with the filter.
const KEY_LIMIT: &str = "postern-key-limit";
const JWT: &str = "postern-jwt";
/// Longer than any measurement.
const TOKEN_TTL: i64 = 6 * 3600;

/// A benchmark variant.
#[derive(Clone)]
pub(super) struct Variant {
    pub(super) name: &'static str,
    /// A file in benches/envoy.
    pub(super) template: &'static str,
    /// The header with the credential, sent with each request.
    pub(super) header: Option<(&'static str, String)>,
    /// Postern's configuration; `None` for the native filters.
    pub(super) gate: Option<Value>,
    /// Native variants that do the same.
    pub(super) peers: &'static [&'static str],
}

impl Variant {
    /// The same with an earlier build of the filter, if this variant has the filter.
    pub(super) fn with_baseline(&self) -> Option<Self> {
        let name = match self.name {
            KEY_LIMIT => "baseline-key-limit",
            JWT => "baseline-jwt",
            _ => return None,
        };
        Some(Self { name, ..self.clone() })
    }
}

pub(super) fn all(idp: &IdentityProvider) -> Vec<Variant> {
    let [(_, key), ..] = KEYS;
    let api_key = || Some(("x-api-key", key.to_owned()));
    let token = idp.mint(Alg::Rs256, &tokens::claims(ISSUER, AUDIENCE, "alice", TOKEN_TTL));
    let bearer = || Some(("authorization", format!("Bearer {token}")));
    let native = |name, template, header| Variant {
        name,
        template,
        header,
        gate: None,
        peers: &[],
    };
    let postern = |name, header, gate, peers| Variant {
        name,
        template: "postern.yaml",
        header,
        gate: Some(gate),
        peers,
    };
    vec![
        native("none", "none.yaml", None),
        native("native-key-limit", "native-key-limit.yaml", api_key()),
        postern(KEY_LIMIT, api_key(), key_and_limit(), &["native-key-limit"]),
        native("native-jwt", "native-jwt.yaml", bearer()),
        native("native-jwt-cached", "native-jwt-cached.yaml", bearer()),
        postern(JWT, bearer(), jwt(), &["native-jwt", "native-jwt-cached"]),
    ]
}

fn key_and_limit() -> Value {
    let keys: Vec<Value> = KEYS
        .iter()
        .map(|(id, key)| json!({"id": id, "digest": api_key_digest(key)}))
        .collect();
    json!({
        "api_keys": {"bench": {"header": "x-api-key", "keys": keys}},
        "limits": {"big": {"quota": 1_000_000_000, "window": "1s", "key": ["subject"]}},
        "rules": [{
            "name": "all",
            "match": {"path": {"prefix": "/"}},
            "authenticate": {"any": ["api_keys/bench"]},
            "limits": ["big"],
        }],
        "default": "deny",
        // One header with the caller's name, as the peers set.
        "identity_headers": ["subject"],
    })
}

fn jwt() -> Value {
    json!({
        "issuers": {"bench": {
            "issuer": ISSUER,
            "audiences": [AUDIENCE],
            "algorithms": ["RS256"],
            "jwks": {"uri": "http://idp.example/.well-known/jwks.json", "cluster": "upstream", "refresh": "10m"},
            // jwt_authn's default.
            "leeway": "60s",
        }},
        "rules": [{
            "name": "all",
            "match": {"path": {"prefix": "/"}},
            "authenticate": {"any": ["issuers/bench"]},
        }],
        "default": "deny",
        // One header with the caller's name, as the peers set.
        "identity_headers": ["subject"],
    })
}
