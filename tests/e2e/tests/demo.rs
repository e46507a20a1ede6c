//! Every kind of caller, over both versions of HTTP: what it is answered, whether it reached the API, and as whom.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "for tests: what does not work ends the test"
)]

use postern_e2e::{Call, Fixture, Setup, Version, client, gate_yaml};
use postern_testbed::idp::Alg;
use postern_testbed::{sign, tokens};
use serde_json::{Value, json};

const SECRET: &str = "a-webhook-secret-of-the-demo-test";
const BODY: &str = r#"{"action":"opened","number":1}"#;
const BEARER: &str = "Bearer realm=\"postern\", ApiKey realm=\"postern\"";
const BEARER_WRONG: &str = "Bearer realm=\"postern\", error=\"invalid_token\", ApiKey realm=\"postern\"";
const SIGNATURE: &str = "Signature realm=\"postern\"";

/// The shipped gate, with keys that somebody has, a tenant and a claim for the upstream.
fn gate() -> Value {
    let mut gate = gate_yaml();
    gate["api_keys"]["agents"]["keys"] = json!([
        {"id": "ci", "digest": sign::api_key_digest("key-one"), "roles": ["Operator"], "tenant": "acme"},
        {"id": "cd", "digest": sign::api_key_digest("key-two")},
        {"id": "old", "digest": sign::api_key_digest("key-old"), "not_after": "2024-01-01T00:00:00Z"},
    ]);
    gate["issuers"]["demo"]["tenant_claim"] = json!("tenant");
    gate["issuers"]["demo"]["default_tenant"] = json!("public");
    gate["issuers"]["demo"]["headers"] = json!({"X-User-Email": "email"});
    gate
}

enum Then {
    /// It reached the API with these identity headers and no others.
    Passes(Vec<(&'static str, &'static str)>),
    /// It was refused: status, code and `WWW-Authenticate`.
    Refused(u16, &'static str, Option<&'static str>),
}

fn token(fixture: &Fixture, audience: &str, ttl: i64, extra: &Value) -> String {
    let mut claims = tokens::claims("https://idp.example", audience, "alice", ttl);
    let object = claims.as_object_mut().unwrap();
    object.extend(extra.as_object().unwrap().clone());
    fixture.idp.mint(Alg::Rs256, &claims)
}

fn cases(fixture: &Fixture, key: &'static str) -> Vec<(&'static str, Call, Then)> {
    use Then::{Passes, Refused};
    let user =
        json!({"realm_access": {"roles": ["User", "a,b"]}, "email": "alice@example.com", "tenant": "acme"});
    let admin = json!({"realm_access": {"roles": ["Admin"]}});
    let good = token(fixture, "orders", 3600, &user);
    let orders = || Call::get("/orders/7");
    let webhook = |body: &str| {
        Call::post("/webhooks/github", body).header("x-hub-signature-256", sign::github(SECRET, BODY))
    };
    let by_key = || match key {
        "key-one" => vec![
            ("x-postern-subject", "ci"),
            ("x-postern-method", "api-key"),
            ("x-postern-roles", "Operator"),
            ("x-postern-tenant", "acme"),
        ],
        _ => vec![("x-postern-subject", "cd"), ("x-postern-method", "api-key")],
    };
    let mut cases = vec![
        ("open to all", Call::get("/healthz"), Passes(vec![])),
        (
            "no credentials",
            orders(),
            Refused(401, "credentials_missing", Some(BEARER)),
        ),
        (
            "a good token",
            orders().bearer(&good),
            Passes(vec![
                ("x-postern-subject", "alice"),
                ("x-postern-method", "jwt"),
                ("x-postern-roles", "User,a%2Cb"),
                ("x-postern-tenant", "acme"),
                ("x-user-email", "alice@example.com"),
            ]),
        ),
        (
            "an expired token",
            orders().bearer(&token(fixture, "orders", -60, &user)),
            Refused(401, "token_expired", Some(BEARER_WRONG)),
        ),
        (
            "a token for another API",
            orders().bearer(&token(fixture, "billing", 3600, &user)),
            Refused(401, "token_invalid", Some(BEARER_WRONG)),
        ),
        (
            "a tampered token",
            orders().bearer(&tokens::tamper(&good)),
            Refused(401, "token_invalid", Some(BEARER_WRONG)),
        ),
        (
            "a wrong token beside a good key",
            orders().bearer(&tokens::tamper(&good)).api_key(key),
            Refused(401, "token_invalid", Some(BEARER_WRONG)),
        ),
        (
            "a token without the role",
            Call::get("/admin/users").bearer(&good),
            Refused(403, "role_missing", None),
        ),
        (
            "a token with the role",
            Call::get("/admin/users").bearer(&token(fixture, "orders", 3600, &admin)),
            Passes(vec![
                ("x-postern-subject", "alice"),
                ("x-postern-method", "jwt"),
                ("x-postern-roles", "Admin"),
                ("x-postern-tenant", "public"),
            ]),
        ),
        (
            "a key where only tokens are taken",
            Call::get("/admin/users").api_key(key),
            Refused(401, "credentials_missing", Some("Bearer realm=\"postern\"")),
        ),
        ("a good API key", orders().api_key(key), Passes(by_key())),
        (
            "an unknown API key",
            orders().api_key(&format!("{key}0")),
            Refused(401, "key_invalid", Some(BEARER_WRONG)),
        ),
        (
            "an API key past its end",
            orders().api_key("key-old"),
            Refused(401, "key_invalid", Some(BEARER_WRONG)),
        ),
        (
            "two API keys",
            orders().api_key(key).api_key(key),
            Refused(401, "credentials_ambiguous", Some(BEARER_WRONG)),
        ),
        (
            "a signed webhook",
            webhook(BODY),
            Passes(vec![
                ("x-postern-subject", "github"),
                ("x-postern-method", "signature"),
            ]),
        ),
        (
            "the same, one byte changed",
            webhook(&BODY.replace('1', "2")),
            Refused(401, "signature_invalid", Some(SIGNATURE)),
        ),
        (
            "an unsigned webhook",
            Call::post("/webhooks/github", BODY),
            Refused(401, "credentials_missing", Some(SIGNATURE)),
        ),
        (
            "a path in no rule",
            Call::get("/internal").bearer(&good),
            Refused(403, "no_rule", None),
        ),
        (
            "a path that only begins like one in a rule",
            Call::get("/orders-old").bearer(&good),
            Refused(403, "no_rule", None),
        ),
        (
            "a method in no rule",
            Call::new("DELETE", "/orders/7").bearer(&good),
            Refused(403, "no_rule", None),
        ),
    ];
    for _ in 0..5 {
        cases.push((
            "within the quota",
            Call::get("/limited").api_key(key),
            Passes(by_key()),
        ));
    }
    cases.push((
        "beyond the quota",
        Call::get("/limited").api_key(key),
        Refused(429, "limit_exceeded", None),
    ));
    cases
}

/// Identity headers among those that arrived.
fn identity(headers: &[(String, String)]) -> Vec<(&str, &str)> {
    let mut found: Vec<_> = headers
        .iter()
        .filter(|(name, _)| name.starts_with("x-postern-") || name == "x-user-email")
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    found.sort_unstable();
    found
}

#[tokio::test]
async fn every_kind_of_caller() {
    let fixture = Setup::new(gate())
        .workers(2)
        .env("GITHUB_WEBHOOK_SECRET", SECRET)
        .start();
    for (version, key) in [(Version::Http1, "key-one"), (Version::Http2, "key-two")] {
        let client = client(version);
        for (name, call, then) in cases(&fixture, key) {
            let case = format!("{version:?}, {name}");
            fixture.api.reset();
            let answer = call.send(&client, &fixture).await;
            let seen = fixture.api.requests();
            match then {
                Then::Passes(mut expected) => {
                    answer.expect(200, None, &case);
                    expected.sort_unstable();
                    assert_eq!(seen.len(), 1, "{case}");
                    assert_eq!(identity(&seen[0].headers), expected, "{case}");
                }
                Then::Refused(status, code, challenge) => {
                    answer.expect(status, Some(code), &case);
                    assert_eq!(answer.header("www-authenticate"), challenge, "{case}");
                    assert_eq!(seen, [], "{case}: it reached the API");
                    if status == 429 {
                        assert!(answer.header("retry-after").is_some(), "{case}");
                        assert!(answer.header("ratelimit").is_some(), "{case}");
                    }
                }
            }
        }
    }
    fixture.assert_sound("demo");
}
