use std::time::Duration as StdDuration;

use ct_codecs::{Base64UrlSafeNoPadding, Encoder};
use jwt_simple::prelude::*;
use serde_json::{Value, json};

use crate::testing::{Fixture, admitted, refused};
use crate::{IssuerId, Need, Reason, Step};

/// The fixture's time.
const NOW: u64 = 1_767_225_600;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    Base64UrlSafeNoPadding::encode_to_string(bytes).unwrap()
}

/// A token with exactly this header and these claims, signed by `key`.
fn sign(header: &Value, claims: &Value, key: &Ed25519KeyPair) -> String {
    let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
    let key = ed25519_compact_key(key);
    format!("{signed}.{}", b64(*key.sign(&signed, None)))
}

fn ed25519_compact_key(key: &Ed25519KeyPair) -> ed25519_compact::SecretKey {
    ed25519_compact::SecretKey::from_slice(&key.to_bytes()).unwrap()
}

struct Idp {
    key: Ed25519KeyPair,
    fixture: Fixture,
}

impl Idp {
    fn new() -> Self {
        Self::with(json!({}))
    }

    /// An issuer with one Ed25519 key, and the settings in `extra`.
    fn with(extra: Value) -> Self {
        let key = Ed25519KeyPair::generate().with_key_id("k1");
        let jwk: Value = serde_json::from_str(&key.public_key().to_jwk()).unwrap();
        let mut issuer = json!({
            "issuer": "https://idp.example", "audiences": ["api", "api2"], "algorithms": ["EdDSA", "RS256"],
            "jwks": {"inline": {"keys": [jwk]}}, "leeway": "10s",
        });
        issuer
            .as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        let fixture = Fixture::new(&json!({
            "issuers": {"idp": issuer},
            "rules": [
                {"name": "admin", "match": {"path": {"exact": "/admin"}}, "authenticate": {"any": ["issuers/idp"]},
                 "authorize": {"roles": ["Admin", "Root"]}},
                {"name": "gold", "match": {"path": {"exact": "/gold"}}, "authenticate": {"any": ["issuers/idp"]},
                 "authorize": {"claims": {"plan.tier": "gold"}}},
                {"name": "all", "authenticate": {"any": ["issuers/idp"]}},
            ],
        }));
        Self { key, fixture }
    }

    fn claims() -> Value {
        json!({"iss": "https://idp.example", "aud": "api", "sub": "alice", "exp": NOW + 60, "iat": NOW, "nbf": NOW})
    }

    fn token(&self, change: Value) -> String {
        self.token_with(&json!({"alg": "EdDSA", "kid": "k1"}), change)
    }

    fn token_with(&self, header: &Value, change: Value) -> String {
        let mut claims = Self::claims();
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims
                    .as_object_mut()
                    .unwrap()
                    .insert(name.clone(), value.clone()),
            };
        }
        sign(header, &claims, &self.key)
    }

    fn get(&self, path: &str, token: &str) -> Step {
        self.fixture
            .get(path, &[("authorization", &format!("Bearer {token}"))])
    }
}

#[test]
fn claims_and_validity_are_checked() {
    let idp = Idp::new();
    for (case, change, reason) in [
        ("as is", json!({}), None),
        (
            "one of several audiences",
            json!({"aud": ["other", "api2"]}),
            None,
        ),
        ("fractions of a second", json!({"exp": NOW as f64 + 0.5}), None),
        ("expired within the leeway", json!({"exp": NOW - 9}), None),
        ("expired", json!({"exp": NOW - 10}), Some(Reason::TokenExpired)),
        ("no exp", json!({"exp": null}), Some(Reason::TokenExpiryMissing)),
        (
            "exp as text",
            json!({"exp": "2030"}),
            Some(Reason::TokenMalformed),
        ),
        ("exp far away", json!({"exp": 99_999_999_999_u64}), None),
        ("negative exp", json!({"exp": -5}), Some(Reason::TokenMalformed)),
        ("nbf within the leeway", json!({"nbf": NOW + 10}), None),
        (
            "nbf to come",
            json!({"nbf": NOW + 11}),
            Some(Reason::TokenNotYetValid),
        ),
        (
            "iat to come",
            json!({"iat": NOW + 11}),
            Some(Reason::TokenNotYetValid),
        ),
        (
            "other issuer",
            json!({"iss": "https://evil.example"}),
            Some(Reason::TokenIssuer),
        ),
        (
            "issuer with a slash more",
            json!({"iss": "https://idp.example/"}),
            Some(Reason::TokenIssuer),
        ),
        ("no issuer", json!({"iss": null}), Some(Reason::TokenIssuer)),
        (
            "other audience",
            json!({"aud": "web"}),
            Some(Reason::TokenAudience),
        ),
        ("no audience", json!({"aud": null}), Some(Reason::TokenAudience)),
        ("empty audiences", json!({"aud": []}), Some(Reason::TokenAudience)),
        (
            "no subject",
            json!({"sub": null}),
            Some(Reason::TokenSubjectMissing),
        ),
        (
            "empty subject",
            json!({"sub": ""}),
            Some(Reason::TokenSubjectMissing),
        ),
    ] {
        let step = idp.get("/", &idp.token(change));
        match reason {
            None => assert_eq!(admitted(&step).subject, "alice", "{case}"),
            Some(reason) => assert_eq!(refused(&step).reason, reason, "{case}"),
        }
    }
}

#[test]
fn token_headers_are_checked() {
    let idp = Idp::new();
    for (case, header, reason) in [
        (
            "typ JWT",
            json!({"alg": "EdDSA", "kid": "k1", "typ": "jwt"}),
            None,
        ),
        (
            "typ at+jwt",
            json!({"alg": "EdDSA", "kid": "k1", "typ": "at+jwt"}),
            None,
        ),
        ("no kid, one key", json!({"alg": "EdDSA"}), None),
        (
            "typ of another thing",
            json!({"alg": "EdDSA", "kid": "k1", "typ": "dpop"}),
            Some(Reason::TokenMalformed),
        ),
        ("none", json!({"alg": "none"}), Some(Reason::TokenAlgorithm)),
        ("None", json!({"alg": "None"}), Some(Reason::TokenAlgorithm)),
        (
            "HS256 beside a public key",
            json!({"alg": "HS256", "kid": "k1"}),
            Some(Reason::TokenAlgorithm),
        ),
        (
            "accepted, but of no key",
            json!({"alg": "RS256", "kid": "k1"}),
            Some(Reason::TokenKeyUnknown),
        ),
        (
            "other kid",
            json!({"alg": "EdDSA", "kid": "k2"}),
            Some(Reason::TokenKeyUnknown),
        ),
        (
            "critical extension",
            json!({"alg": "EdDSA", "kid": "k1", "crit": ["x"], "x": 1}),
            Some(Reason::TokenCritical),
        ),
        ("no alg", json!({"kid": "k1"}), Some(Reason::TokenMalformed)),
    ] {
        let step = idp.get("/", &idp.token_with(&header, json!({})));
        match reason {
            None => assert_eq!(admitted(&step).subject, "alice", "{case}"),
            Some(reason) => assert_eq!(refused(&step).reason, reason, "{case}"),
        }
    }
}

#[test]
fn malformed_tokens_are_refused() {
    let idp = Idp::new();
    let good = idp.token(json!({}));
    let (signed, _) = good.rsplit_once('.').unwrap();
    let long = "x".repeat(60 * 1024);
    for (token, reason) in [
        ("", Reason::CredentialsMissing),
        ("a.b", Reason::TokenMalformed),
        ("a.b.c", Reason::TokenMalformed),
        (&format!("{good}.x"), Reason::TokenMalformed),
        (signed, Reason::TokenMalformed),
        (&format!("{signed}."), Reason::TokenSignature),
        (&format!("{signed}.AAAA"), Reason::TokenSignature),
        (&long, Reason::TokenTooLarge),
        (&format!("{good},{good}"), Reason::CredentialsAmbiguous),
    ] {
        assert_eq!(
            refused(&idp.get("/", token)).reason,
            reason,
            "{}",
            token.get(..80).unwrap_or(token)
        );
    }
    let bearer = format!("Bearer {good}");
    let step = idp
        .fixture
        .get("/", &[("authorization", &bearer), ("authorization", &bearer)]);
    assert_eq!(refused(&step).reason, Reason::CredentialsAmbiguous);
    for other in ["Basic dXNlcjpwYXNz", "Bearer", "Token x"] {
        let step = idp.fixture.get("/", &[("authorization", other)]);
        assert_eq!(refused(&step).reason, Reason::CredentialsMissing, "{other}");
    }
    let step = idp
        .fixture
        .get("/", &[("authorization", &format!("bEARER  {good}"))]);
    admitted(&step);
}

#[test]
fn a_token_changed_at_any_position_is_refused() {
    let idp = Idp::new();
    let good = idp.token(json!({}));
    admitted(&idp.get("/", &good));
    for at in (0..good.len() - 1).filter(|at| good.as_bytes()[*at] != b'.') {
        let other = if good.as_bytes()[at] == b'A' { "B" } else { "A" };
        let mut changed = good.clone();
        changed.replace_range(at..=at, other);
        assert_eq!(refused(&idp.get("/", &changed)).reason.status(), 401, "at {at}");
    }
}

#[test]
fn a_cached_token_expires() {
    let idp = Idp::new();
    let token = idp.token(json!({}));
    admitted(&idp.get("/", &token));
    idp.fixture.advance(StdDuration::from_secs(69));
    admitted(&idp.get("/", &token));
    idp.fixture.advance(StdDuration::from_secs(1));
    assert_eq!(refused(&idp.get("/", &token)).reason, Reason::TokenExpired);
}

#[test]
fn roles_claims_and_identity_headers() {
    let idp = Idp::with(json!({
        "roles_claim": "realm_access.roles", "tenant_claim": "org", "default_tenant": "public",
        "headers": {"X-User-Email": "email"},
    }));
    let step = idp.get(
        "/admin",
        &idp.token(json!({"realm_access": {"roles": ["User", "Root"]}, "email": "a@b.c"})),
    );
    let caller = admitted(&step);
    assert_eq!(caller.tenant.as_deref(), Some("public"));
    let headers: Vec<_> = caller
        .headers()
        .iter()
        .map(|(n, v)| format!("{n}: {v}"))
        .collect();
    assert_eq!(
        headers,
        [
            "x-postern-subject: alice",
            "x-postern-method: jwt",
            "x-postern-roles: User,Root",
            "x-postern-tenant: public",
            "x-user-email: a@b.c",
        ]
    );
    for (path, change, reason) in [
        (
            "/admin",
            json!({"realm_access": {"roles": ["User"]}}),
            Some(Reason::RoleMissing),
        ),
        ("/admin", json!({"roles": ["Admin"]}), Some(Reason::RoleMissing)),
        ("/gold", json!({"plan": {"tier": "gold"}}), None),
        ("/gold", json!({"plan": {"tier": ["silver", "gold"]}}), None),
        (
            "/gold",
            json!({"plan": {"tier": "golden"}}),
            Some(Reason::ClaimMismatch),
        ),
        ("/gold", json!({}), Some(Reason::ClaimMismatch)),
    ] {
        let step = idp.get(path, &idp.token(change.clone()));
        match reason {
            None => assert_eq!(admitted(&step).subject, "alice", "{change}"),
            Some(reason) => assert_eq!(refused(&step).reason, reason, "{change}"),
        }
    }
}

fn remote() -> (Ed25519KeyPair, Fixture) {
    let key = Ed25519KeyPair::generate().with_key_id("k1");
    let fixture = Fixture::new(&json!({
        "issuers": {"idp": {
            "issuer": "https://idp.example", "audiences": ["api"], "algorithms": ["EdDSA"],
            "jwks": {"uri": "https://idp.example/jwks", "cluster": "idp", "refresh": "10m", "max_stale": "1h"},
        }},
        "rules": [{"name": "all", "authenticate": {"any": ["issuers/idp"]}}],
    }));
    (key, fixture)
}

fn jwks_of(key: &Ed25519KeyPair) -> String {
    format!(r#"{{"keys":[{}]}}"#, key.public_key().to_jwk())
}

#[test]
fn fetched_keys_are_used_until_they_are_too_old() {
    let (key, fixture) = remote();
    let mut claims = Idp::claims();
    claims["exp"] = json!(NOW + 100_000);
    let token = format!(
        "Bearer {}",
        sign(&json!({"alg": "EdDSA", "kid": "k1"}), &claims, &key)
    );
    let headers = [("authorization", token.as_str())];
    let wait = || match fixture.get("/", &headers) {
        Step::Need(Need::Keys(pending)) => pending,
        other => panic!("{other:?}"),
    };
    // There are no keys, and none were fetched.
    assert_eq!(
        refused(&fixture.resume_with_keys(wait(), "/", &headers)).reason,
        Reason::KeysUnavailable
    );
    // Keys were fetched.
    let pending = wait();
    fixture
        .gate()
        .install_keys(IssuerId::new(0), jwks_of(&key).as_bytes(), fixture.monotonic())
        .unwrap();
    admitted(&fixture.resume_with_keys(pending, "/", &headers));
    admitted(&fixture.get("/", &headers));
    // An invalid document does not replace them.
    for invalid in [
        "",
        "[]",
        "{}",
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
    ] {
        fixture
            .gate()
            .install_keys(IssuerId::new(0), invalid.as_bytes(), fixture.monotonic())
            .unwrap_err();
    }
    // The keys are late, then too old, also for a cached token.
    fixture.advance(StdDuration::from_secs(1_000));
    admitted(&fixture.get("/", &headers));
    assert!(fixture.observations.0.borrow().iter().any(|e| e == "StaleKeys"));
    fixture.advance(StdDuration::from_secs(3_000));
    assert_eq!(
        refused(&fixture.resume_with_keys(wait(), "/", &headers)).reason,
        Reason::KeysUnavailable
    );
    // After a rotation, tokens of the old key are refused, cached or not.
    let next = Ed25519KeyPair::generate().with_key_id("k2");
    fixture
        .gate()
        .install_keys(IssuerId::new(0), jwks_of(&next).as_bytes(), fixture.monotonic())
        .unwrap();
    assert_eq!(
        refused(&fixture.resume_with_keys(wait(), "/", &headers)).reason,
        Reason::TokenKeyUnknown
    );
}

/// RFC 7515, appendix A.2 (RS256) and A.3 (ES256); RFC 8037, appendix A.4 (EdDSA): their signatures verify, and with
/// a changed payload they do not.
#[test]
fn published_signatures_verify() {
    use crate::VerifyingKey;
    use crate::config::Algorithm;
    let payload =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    for (algorithm, jwk, token) in [
        (
            Algorithm::RS256,
            r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#,
            format!(
                "eyJhbGciOiJSUzI1NiJ9.{payload}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"
            ),
        ),
        (
            Algorithm::ES256,
            r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
            format!(
                "eyJhbGciOiJFUzI1NiJ9.{payload}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
            ),
        ),
    ] {
        let key = VerifyingKey::from_jwk(jwk, None, algorithm).unwrap();
        assert_eq!(key.verify(&token), Ok(()), "{algorithm:?}");
        assert!(
            key.verify(&token.replacen(".ey", ".fy", 1)).is_err(),
            "{algorithm:?}"
        );
        for other in [Algorithm::ES384, Algorithm::EdDSA, Algorithm::HS256] {
            assert!(
                VerifyingKey::from_jwk(jwk, None, other).is_none(),
                "{algorithm:?} key accepted for {other:?}"
            );
        }
    }
}

#[test]
fn the_token_cache_is_bounded_and_keeps_tokens_in_use() {
    use super::cache::TokenCache;
    use super::{VerifiedToken, token::Validity};
    use crate::config::Expiry;
    use crate::identity::{CredentialKind, Identity};
    use std::rc::Rc;
    let validity = Validity::read(&serde_json::Map::new(), Expiry::Optional).unwrap();
    let identity = Rc::new(Identity::new(
        "issuers/i",
        "a".into(),
        CredentialKind::Jwt,
        Vec::new(),
        None,
        serde_json::Map::new(),
        [],
    ));
    let verified = Rc::new(VerifiedToken {
        issuer: crate::IssuerId::new(0),
        validity,
        identity,
    });
    let mut cache = TokenCache::new(10);
    let print = |i: u8| [i; 32];
    for i in 0..200 {
        cache.put(print(i), Rc::clone(&verified));
        assert!(cache.get(&print(0)).is_some(), "tokens in use stay: {i}");
    }
    assert!(
        (1..190).all(|i| cache.get(&print(i)).is_none() || i > 170),
        "unused tokens are evicted"
    );
    cache.clear();
    assert!(cache.get(&print(0)).is_none());
}
