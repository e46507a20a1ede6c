//! Every kind of credential over both HTTP versions: the response, and the identity with which a request reaches the API.

use postern_e2e::{Fixture, Request, Setup, Version, client, gate_yaml};
use postern_testbed::idp::Alg;
use postern_testbed::{sign, tokens};
use serde_json::{Value, json};

const SECRET: &str = "a-webhook-secret-of-this-test";
const BODY: &str = r#"{"action":"opened","number":1}"#;
const BEARER: &str = "Bearer realm=\"postern\", ApiKey realm=\"postern\"";
const BEARER_WRONG: &str = "Bearer realm=\"postern\", error=\"invalid_token\", ApiKey realm=\"postern\"";
const SIGNATURE: &str = "Signature realm=\"postern\"";

/// The shipped gate, with known API keys, tenants and a claim header.
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

enum Expected {
    /// It reaches the API with exactly these identity headers.
    Admitted(Vec<(&'static str, &'static str)>),
    /// It is refused with this status, code and `WWW-Authenticate`.
    Refused(u16, &'static str, Option<&'static str>),
}

fn token(fixture: &Fixture, audience: &str, ttl: i64, extra: &Value) -> String {
    let mut claims = tokens::claims("https://idp.example", audience, "alice", ttl);
    let object = claims.as_object_mut().unwrap();
    object.extend(extra.as_object().unwrap().clone());
    fixture.idp.mint(Alg::Rs256, &claims)
}

fn cases(fixture: &Fixture, key: &'static str) -> Vec<(&'static str, Request, Expected)> {
    use Expected::{Admitted, Refused};
    let user =
        json!({"realm_access": {"roles": ["User", "a,b"]}, "email": "alice@example.com", "tenant": "acme"});
    let admin = json!({"realm_access": {"roles": ["Admin"]}});
    let valid = token(fixture, "orders", 3600, &user);
    let orders = || Request::get("/orders/7");
    let webhook = |body: &str| {
        Request::post("/webhooks/github", body).header("x-hub-signature-256", sign::github(SECRET, BODY))
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
        ("an open rule", Request::get("/healthz"), Admitted(vec![])),
        (
            "no credentials",
            orders(),
            Refused(401, "credentials_missing", Some(BEARER)),
        ),
        (
            "a valid token",
            orders().bearer(&valid),
            Admitted(vec![
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
            orders().bearer(&tokens::tamper(&valid)),
            Refused(401, "token_invalid", Some(BEARER_WRONG)),
        ),
        (
            "a tampered token beside a valid key",
            orders().bearer(&tokens::tamper(&valid)).api_key(key),
            Refused(401, "token_invalid", Some(BEARER_WRONG)),
        ),
        (
            "a token without the role",
            Request::get("/admin/users").bearer(&valid),
            Refused(403, "role_missing", None),
        ),
        (
            "a token with the role",
            Request::get("/admin/users").bearer(&token(fixture, "orders", 3600, &admin)),
            Admitted(vec![
                ("x-postern-subject", "alice"),
                ("x-postern-method", "jwt"),
                ("x-postern-roles", "Admin"),
                ("x-postern-tenant", "public"),
            ]),
        ),
        (
            "a key where only tokens are accepted",
            Request::get("/admin/users").api_key(key),
            Refused(401, "credentials_missing", Some("Bearer realm=\"postern\"")),
        ),
        ("a valid API key", orders().api_key(key), Admitted(by_key())),
        (
            "an unknown API key",
            orders().api_key(&format!("{key}0")),
            Refused(401, "key_invalid", Some(BEARER_WRONG)),
        ),
        (
            "an expired API key",
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
            Admitted(vec![
                ("x-postern-subject", "github"),
                ("x-postern-method", "signature"),
            ]),
        ),
        (
            "a signed webhook with one byte changed",
            webhook(&BODY.replace('1', "2")),
            Refused(401, "signature_invalid", Some(SIGNATURE)),
        ),
        (
            "an unsigned webhook",
            Request::post("/webhooks/github", BODY),
            Refused(401, "credentials_missing", Some(SIGNATURE)),
        ),
        (
            "a path without a rule",
            Request::get("/internal").bearer(&valid),
            Refused(403, "no_rule", None),
        ),
        (
            "a path that shares only a string prefix with a rule",
            Request::get("/orders-old").bearer(&valid),
            Refused(403, "no_rule", None),
        ),
        (
            "a method without a rule",
            Request::new("DELETE", "/orders/7").bearer(&valid),
            Refused(403, "no_rule", None),
        ),
    ];
    for _ in 0..5 {
        cases.push((
            "within the quota",
            Request::get("/limited").api_key(key),
            Admitted(by_key()),
        ));
    }
    cases.push((
        "beyond the quota",
        Request::get("/limited").api_key(key),
        Refused(429, "limit_exceeded", None),
    ));
    cases
}

/// The identity headers among these, sorted.
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
async fn every_kind_of_credential_is_admitted_or_refused() {
    let fixture = Setup::new(gate())
        .workers(2)
        .env("GITHUB_WEBHOOK_SECRET", SECRET)
        .start();
    for (version, key) in [(Version::Http1, "key-one"), (Version::Http2, "key-two")] {
        let client = client(version);
        for (name, request, expected) in cases(&fixture, key) {
            let case = format!("{version:?}, {name}");
            fixture.api.reset();
            let response = request.send(&client, &fixture).await;
            let received = fixture.api.requests();
            match expected {
                Expected::Admitted(mut headers) => {
                    response.expect(200, None, &case);
                    headers.sort_unstable();
                    assert_eq!(received.len(), 1, "{case}");
                    assert_eq!(identity(&received[0].headers), headers, "{case}");
                }
                Expected::Refused(status, code, challenge) => {
                    response.expect(status, Some(code), &case);
                    assert_eq!(response.header("www-authenticate"), challenge, "{case}");
                    assert_eq!(received, [], "{case}: it reached the API");
                    if status == 429 {
                        assert!(response.header("retry-after").is_some(), "{case}");
                        assert!(response.header("ratelimit").is_some(), "{case}");
                    }
                }
            }
        }
    }
    fixture.assert_healthy("credentials");
}
