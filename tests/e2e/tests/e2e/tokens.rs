//! Tokens through a real Envoy: every algorithm, and attacks on tokens. Each decision is counted under its exact reason,
//! and the response does not reveal what the gate expects.

use postern_e2e::{Fixture, Request, Setup, Version, client};
use postern_testbed::idp::Alg;
use postern_testbed::{sign, tokens};
use serde_json::{Value, json};

const ISSUER: &str = "https://idp.example";
const SHARED: &str = "https://shared.example";
const NARROW: &str = "https://narrow.example";
const AUDIENCE: &str = "the-audience";
const SECRET: &str = "a secret of more than 32 bytes for HS256";
const HOUR: i64 = 3600;

fn gate() -> Value {
    let jwks = json!({"uri": "http://idp.example/.well-known/jwks.json", "cluster": "idp"});
    let all: Vec<_> = Alg::ALL.iter().map(|alg| alg.name()).collect();
    json!({
        "issuers": {
            "main": {"issuer": ISSUER, "audiences": [AUDIENCE, "second"], "algorithms": all, "jwks": jwks},
            "narrow": {"issuer": NARROW, "audiences": [AUDIENCE], "algorithms": ["RS256"], "jwks": jwks},
            "shared": {
                "issuer": SHARED, "audiences": [AUDIENCE], "algorithms": ["HS256"],
                "secret": {"env": "SHARED_SECRET"}, "expiry": "optional",
            },
        },
        "rules": [
            {
                "name": "all", "match": {"path": {"exact": "/all"}},
                "authenticate": {"any": ["issuers/main", "issuers/shared", "issuers/narrow"]},
            },
            {
                "name": "narrow", "match": {"path": {"exact": "/narrow"}},
                "authenticate": {"any": ["issuers/narrow"]},
            },
        ],
    })
}

fn claims(issuer: &str) -> Value {
    tokens::claims(issuer, AUDIENCE, "alice", HOUR)
}

/// The claims of a valid token of the main issuer with changes; null removes a claim.
fn changed(changes: &Value) -> Value {
    let mut claims = claims(ISSUER);
    let object = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        object.insert(name.clone(), value.clone());
    }
    object.retain(|_, value| !value.is_null());
    claims
}

fn hs256(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let mac = sign::hmac_sha256(secret, tokens::signing_input(header, claims).as_bytes());
    tokens::assemble(header, claims, &mac)
}

struct Case {
    name: String,
    path: &'static str,
    authorization: Vec<String>,
    /// The exact reason; `admitted` for an admitted token.
    reason: &'static str,
    code: Option<&'static str>,
}

fn case(name: impl Into<String>, token: &str, reason: &'static str) -> Case {
    let code = match reason {
        "admitted" => None,
        "token_expired" | "token_not_yet_valid" | "credentials_missing" | "credentials_ambiguous" => {
            Some(reason)
        }
        _ => Some("token_invalid"),
    };
    Case {
        name: name.into(),
        path: "/all",
        authorization: vec![format!("Bearer {token}")],
        reason,
        code,
    }
}

fn algorithms(fixture: &Fixture) -> Vec<Case> {
    let mut cases = Vec::new();
    for alg in Alg::ALL {
        let token = fixture.idp.mint(alg, &claims(ISSUER));
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let short = format!("{signed}.{}", signature.chars().skip(8).collect::<String>());
        // Another subject with the signature of the first.
        let forged = tokens::signing_input(
            &json!({"alg": alg.name(), "kid": fixture.idp.keys().key_id(alg)}),
            &changed(&json!({"sub": "root"})),
        );
        let name = alg.name();
        cases.extend([
            case(format!("{name}, valid"), &token, "admitted"),
            case(format!("{name}, valid again"), &token, "admitted"),
            case(
                format!("{name}, tampered"),
                &tokens::tamper(&token),
                "token_signature",
            ),
            case(format!("{name}, truncated"), &short, "token_signature"),
            case(
                format!("{name}, no signature"),
                &format!("{signed}."),
                "token_signature",
            ),
            case(
                format!("{name}, other claims"),
                &format!("{forged}.{signature}"),
                "token_signature",
            ),
        ]);
    }
    cases
}

fn shared_secret(fixture: &Fixture) -> Vec<Case> {
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let token = hs256(&header, &claims(SHARED), SECRET.as_bytes());
    let mut endless = claims(SHARED);
    endless.as_object_mut().unwrap().remove("exp");
    let endless = hs256(&header, &endless, SECRET.as_bytes());
    vec![
        case("HS256, valid", &token, "admitted"),
        case("HS256, tampered", &tokens::tamper(&token), "token_signature"),
        case(
            "HS256, another secret",
            &hs256(&header, &claims(SHARED), b"another secret"),
            "token_signature",
        ),
        case("no exp where it is optional", &endless, "admitted"),
        case(
            "RS256 where HS256 is expected",
            &fixture.idp.mint(Alg::Rs256, &claims(SHARED)),
            "token_algorithm",
        ),
    ]
}

fn attacks(fixture: &Fixture) -> Vec<Case> {
    let keys = fixture.idp.keys();
    let mint = |changes: &Value| fixture.idp.mint(Alg::Rs256, &changed(changes));
    let valid = mint(&json!({}));
    let payload = |header: &Value| tokens::assemble(header, &claims(ISSUER), b"signature");
    let kid = keys.key_id(Alg::Rs256);
    let pem = keys.rsa_public_pem().unwrap();
    let confused = |kid: &str| {
        let header = json!({"alg": "HS256", "typ": "JWT", "kid": kid});
        hs256(&header, &claims(ISSUER), pem.as_bytes())
    };
    let other_key = valid.replace(
        valid.split('.').next().unwrap(),
        tokens::signing_input(&json!({"alg": "RS256", "kid": "another-key"}), &json!({}))
            .split('.')
            .next()
            .unwrap(),
    );
    let now = tokens::now();
    vec![
        case(
            "alg none",
            &tokens::assemble(&json!({"alg": "none"}), &claims(ISSUER), b""),
            "token_algorithm",
        ),
        case(
            "alg none, with a signature",
            &payload(&json!({"alg": "none", "kid": kid})),
            "token_algorithm",
        ),
        case(
            "alg nOnE",
            &payload(&json!({"alg": "nOnE", "kid": kid})),
            "token_algorithm",
        ),
        case("no alg", &payload(&json!({"kid": kid})), "token_malformed"),
        case(
            "the public key as HS256 secret",
            &confused(&kid),
            "token_algorithm",
        ),
        case(
            "alg of another key",
            &payload(&json!({"alg": "RS512", "kid": kid})),
            "token_key_unknown",
        ),
        case(
            "alg not accepted for the issuer",
            &fixture.idp.mint(Alg::Es256, &claims(NARROW)),
            "token_algorithm",
        ),
        case("unknown kid", &other_key, "token_key_unknown"),
        case(
            "crit",
            &payload(&json!({"alg": "RS256", "kid": kid, "crit": ["exp"]})),
            "token_critical",
        ),
        case(
            "typ of another kind",
            &payload(&json!({"alg": "RS256", "kid": kid, "typ": "logout"})),
            "token_malformed",
        ),
        case(
            "another issuer",
            &mint(&json!({"iss": "https://evil.example"})),
            "token_issuer",
        ),
        case("no issuer", &mint(&json!({"iss": null})), "token_issuer"),
        case(
            "issuer with a trailing slash",
            &mint(&json!({"iss": format!("{ISSUER}/")})),
            "token_issuer",
        ),
        case(
            "another audience",
            &mint(&json!({"aud": "another"})),
            "token_audience",
        ),
        case("no audience", &mint(&json!({"aud": null})), "token_audience"),
        case(
            "other audiences",
            &mint(&json!({"aud": ["a", "b"]})),
            "token_audience",
        ),
        case(
            "several audiences, one accepted",
            &mint(&json!({"aud": ["a", "second"]})),
            "admitted",
        ),
        case("no exp", &mint(&json!({"exp": null})), "token_expiry_missing"),
        case(
            "exp as a string",
            &mint(&json!({"exp": "tomorrow"})),
            "token_malformed",
        ),
        case("expired", &mint(&json!({"exp": now - 60})), "token_expired"),
        case(
            "expired within the leeway",
            &mint(&json!({"exp": now - 10})),
            "admitted",
        ),
        case(
            "nbf in the future",
            &mint(&json!({"nbf": now + 600})),
            "token_not_yet_valid",
        ),
        case(
            "iat in the future",
            &mint(&json!({"iat": now + 600})),
            "token_not_yet_valid",
        ),
        case(
            "no subject",
            &mint(&json!({"sub": null})),
            "token_subject_missing",
        ),
        case(
            "20 KB",
            &mint(&json!({"filler": "x".repeat(15_000)})),
            "token_too_large",
        ),
        case("no token", "not-a-token", "token_malformed"),
        case("four parts", &format!("{valid}.x"), "token_malformed"),
        case(
            "claims that are a list",
            &tokens::assemble(&json!({"alg": "RS256", "kid": kid}), &json!([1]), b"x"),
            "token_malformed",
        ),
        Case {
            authorization: vec![format!("Bearer {valid}"), format!("Bearer {valid}")],
            ..case("two Authorization headers", "", "credentials_ambiguous")
        },
        Case {
            authorization: vec![format!("Bearer {valid}, Bearer {valid}")],
            ..case("two tokens in one header", "", "credentials_ambiguous")
        },
        Case {
            authorization: vec![format!("Basic {valid}")],
            ..case("another scheme", "", "credentials_missing")
        },
        Case {
            authorization: vec![valid.clone()],
            ..case("no scheme", "", "credentials_missing")
        },
        Case {
            authorization: vec![format!("bEARER {valid}")],
            ..case(
                "the scheme in another case (RFC 9110, section 11.1)",
                "",
                "admitted",
            )
        },
        Case {
            path: "/narrow",
            ..case(
                "a cached token where its issuer is not accepted",
                &valid,
                "token_issuer",
            )
        },
    ]
}

#[tokio::test]
async fn only_valid_tokens_are_admitted() {
    let fixture = Setup::new(gate()).workers(2).env("SHARED_SECRET", SECRET).start();
    assert!(
        fixture
            .envoy
            .log()
            .contains("RS* and ES* signatures are verified by the proxy")
    );
    let client = client(Version::Http1);
    let mut cases = algorithms(&fixture);
    cases.extend(shared_secret(&fixture));
    cases.extend(attacks(&fixture));
    for case in cases {
        let before = fixture.decision_counts();
        let before_api = fixture.api.count();
        let mut request = Request::get(case.path);
        for value in &case.authorization {
            request = request.header("authorization", value);
        }
        let response = request.send(&client, &fixture).await;
        let admitted = case.code.is_none();
        response.expect(if admitted { 200 } else { 401 }, case.code, &case.name);
        assert_eq!(
            fixture.api.count() - before_api,
            usize::from(admitted),
            "{}",
            case.name
        );
        let rule = case.path.trim_start_matches('/');
        fixture.expect_decision(&before, &format!("{rule}.{}", case.reason), &case.name);
        if admitted {
            continue;
        }
        let text = response.text();
        for revealing in [
            ISSUER, SHARED, NARROW, AUDIENCE, "second", "rs256-1", "kid", "RS256",
        ] {
            assert!(!text.contains(revealing), "{}: {revealing} in {text}", case.name);
        }
        if Some(case.reason) != case.code {
            assert!(!text.contains(case.reason), "{}: {text}", case.name);
        }
    }
    check_header_limit(&fixture, &client).await;
    fixture.assert_healthy("tokens");
}

/// By default Envoy accepts 60 KiB of headers and itself responds with 431 to more.
async fn check_header_limit(fixture: &Fixture, client: &reqwest::Client) {
    let before = fixture.decision_counts();
    let response = Request::get("/all")
        .bearer(&"x".repeat(61_440))
        .send(client, fixture)
        .await;
    assert_eq!(response.status, 431);
    let below = Request::get("/all")
        .bearer(&"x".repeat(60_000))
        .send(client, fixture)
        .await;
    below.expect(401, Some("token_invalid"), "60,000 bytes");
    fixture.expect_decision(&before, "all.token_too_large", "60,000 bytes");
}
