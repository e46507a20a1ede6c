//! The `keyed` signature scheme: signed parts cannot be changed, and no request is accepted twice.

use postern_e2e::{Fixture, Request, Setup, Version, client};
use postern_testbed::{sign, tokens};
use serde_json::json;
use sha2::{Digest, Sha256};

const NEW: &str = "the-new-secret-of-alpha";
const OLD: &str = "the-old-secret-of-alpha";
const BETA: &str = "the-secret-of-beta";

fn start() -> Fixture {
    let gate = json!({
        "signatures": {"callers": {
            "scheme": "keyed", "header_prefix": "X-Sig-", "max_skew": "60s", "max_body": "1KiB",
            "keys": [
                {"id": "alpha", "secrets": [{"env": "ALPHA_NEW"}, {"env": "ALPHA_OLD"}], "roles": ["Writer"], "tenant": "acme"},
                {"id": "beta", "secrets": [{"env": "BETA"}]},
            ],
        }},
        "rules": [{
            "name": "keyed", "match": {"path": {"prefix": "/keyed"}}, "authenticate": {"any": ["signatures/callers"]},
        }],
    });
    Setup::new(gate)
        .workers(2)
        .env("ALPHA_NEW", NEW)
        .env("ALPHA_OLD", OLD)
        .env("BETA", BETA)
        .start()
}

/// A signed request whose parts a case changes after signing.
#[derive(Clone)]
struct SignedRequest {
    method: &'static str,
    target: String,
    body: String,
    key_id: String,
    timestamp: String,
    nonce: String,
    signature: String,
    /// Additional header lines, by their names without the prefix.
    additional: Vec<(&'static str, String)>,
    omitted: Option<&'static str>,
}

/// Signs a request as docs/configuration.md specifies, without code of the gate.
fn signed(
    method: &'static str,
    target: &str,
    body: &str,
    nonce: &str,
    timestamp: i64,
    secret: &str,
) -> SignedRequest {
    let digest = sign::hex(&Sha256::digest(body));
    let text = format!("{method}\n{target}\n{timestamp}\n{nonce}\n{digest}");
    SignedRequest {
        method,
        target: target.to_owned(),
        body: body.to_owned(),
        key_id: "alpha".to_owned(),
        timestamp: timestamp.to_string(),
        nonce: nonce.to_owned(),
        signature: sign::hex(&sign::hmac_sha256(secret.as_bytes(), text.as_bytes())),
        additional: Vec::new(),
        omitted: None,
    }
}

impl SignedRequest {
    fn to_request(&self) -> Request {
        let request = match self.body.as_str() {
            "" => Request::new(self.method, &self.target),
            body => Request::post(&self.target, body).method(self.method),
        };
        let own = [
            ("key-id", &self.key_id),
            ("timestamp", &self.timestamp),
            ("nonce", &self.nonce),
            ("signature", &self.signature),
        ];
        let own = own.into_iter().filter(|(name, _)| Some(*name) != self.omitted);
        let more = self.additional.iter().map(|(name, value)| (*name, value));
        own.chain(more).fold(request, |request, (name, value)| {
            request.header(&format!("x-sig-{name}"), value)
        })
    }
}

/// Name, changed request and expected reason. Each request is signed correctly, with its own nonce, and then changed.
fn cases() -> Vec<(&'static str, SignedRequest, &'static str)> {
    let mut number = 0;
    let now = tokens::now();
    let mut fresh = |method, target: &str, body: &str| {
        number += 1;
        signed(method, target, body, &format!("nonce-{number:04}"), now, NEW)
    };
    let mut cases = Vec::new();
    let mut add = |name, request: SignedRequest, reason, change: fn(&mut SignedRequest)| {
        let mut request = request;
        change(&mut request);
        cases.push((name, request, reason));
    };
    let pass = "admitted";
    let mismatch = "signature_mismatch";
    let malformed = "signature_malformed";
    add("a GET", fresh("GET", "/keyed/a?b=1&c=%20", ""), pass, |_| ());
    add("a POST", fresh("POST", "/keyed/a", "body"), pass, |_| ());
    add(
        "a GET with a body",
        fresh("GET", "/keyed/a", "body"),
        pass,
        |_| (),
    );
    add(
        "a percent-encoded path",
        fresh("GET", "/keyed/%41", ""),
        pass,
        |_| (),
    );
    add(
        "a signature in upper case",
        fresh("GET", "/keyed", ""),
        pass,
        |r| {
            r.signature.make_ascii_uppercase();
        },
    );
    add("another path", fresh("GET", "/keyed/a", ""), mismatch, |r| {
        r.target = "/keyed/b".into()
    });
    add(
        "the same path, escaped",
        fresh("GET", "/keyed/a", ""),
        mismatch,
        |r| r.target = "/keyed/%61".into(),
    );
    add("another query", fresh("GET", "/keyed?a=1", ""), mismatch, |r| {
        r.target = "/keyed?a=2".into()
    });
    add("an added query", fresh("GET", "/keyed", ""), mismatch, |r| {
        r.target = "/keyed?a=1".into()
    });
    add("a removed query", fresh("GET", "/keyed?a=1", ""), mismatch, |r| {
        r.target = "/keyed".into()
    });
    add("another method", fresh("GET", "/keyed", ""), mismatch, |r| {
        r.method = "DELETE"
    });
    add("another body", fresh("POST", "/keyed", "body"), mismatch, |r| {
        r.body = "Body".into()
    });
    add("a removed body", fresh("POST", "/keyed", "body"), mismatch, |r| {
        r.body.clear()
    });
    add("an added body", fresh("POST", "/keyed", ""), mismatch, |r| {
        r.body = "body".into()
    });
    add("another nonce", fresh("GET", "/keyed", ""), mismatch, |r| {
        r.nonce.push('x')
    });
    add("another timestamp", fresh("GET", "/keyed", ""), mismatch, |r| {
        r.timestamp = (r.timestamp.parse::<i64>().unwrap() - 1).to_string();
    });
    add("another key id", fresh("GET", "/keyed", ""), mismatch, |r| {
        r.key_id = "beta".into()
    });
    add(
        "an unknown key id",
        fresh("GET", "/keyed", ""),
        "signature_key_unknown",
        |r| r.key_id = "gamma".into(),
    );
    add(
        "a key id in another case",
        fresh("GET", "/keyed", ""),
        "signature_key_unknown",
        |r| r.key_id = "Alpha".into(),
    );
    add(
        "a key id of 129 bytes",
        fresh("GET", "/keyed", ""),
        malformed,
        |r| r.key_id = "k".repeat(129),
    );
    add(
        "a timestamp with a sign",
        fresh("GET", "/keyed", ""),
        malformed,
        |r| r.timestamp.insert(0, '+'),
    );
    add(
        "a timestamp that is no number",
        fresh("GET", "/keyed", ""),
        malformed,
        |r| r.timestamp = "now".into(),
    );
    add("an empty timestamp", fresh("GET", "/keyed", ""), malformed, |r| {
        r.timestamp.clear()
    });
    add(
        "a timestamp in milliseconds",
        fresh("GET", "/keyed", ""),
        "signature_skew",
        |r| r.timestamp.push_str("000"),
    );
    add(
        "a timestamp beyond 64 bits",
        fresh("GET", "/keyed", ""),
        malformed,
        |r| r.timestamp = "9".repeat(30),
    );
    add(
        "the largest timestamp",
        fresh("GET", "/keyed", ""),
        "signature_skew",
        |r| r.timestamp = u64::MAX.to_string(),
    );
    add(
        "a truncated signature",
        fresh("GET", "/keyed", ""),
        malformed,
        |r| r.signature.truncate(62),
    );
    add(
        "a signature too long",
        fresh("GET", "/keyed", ""),
        malformed,
        |r| r.signature.push_str("00"),
    );
    add(
        "a signature that is not hexadecimal",
        fresh("GET", "/keyed", ""),
        malformed,
        |r| r.signature = "z".repeat(64),
    );
    add(
        "an empty signature",
        fresh("GET", "/keyed", ""),
        "credentials_missing",
        |r| r.signature.clear(),
    );
    add(
        "no signature",
        fresh("GET", "/keyed", ""),
        "credentials_missing",
        |r| r.omitted = Some("signature"),
    );
    add("no key id", fresh("GET", "/keyed", ""), malformed, |r| {
        r.omitted = Some("key-id")
    });
    add("no timestamp", fresh("GET", "/keyed", ""), malformed, |r| {
        r.omitted = Some("timestamp")
    });
    add("no nonce", fresh("GET", "/keyed", ""), malformed, |r| {
        r.omitted = Some("nonce")
    });
    let ambiguous = "credentials_ambiguous";
    add("two key ids", fresh("GET", "/keyed", ""), ambiguous, |r| {
        r.additional.push(("key-id", "alpha".into()))
    });
    add("two timestamps", fresh("GET", "/keyed", ""), ambiguous, |r| {
        r.additional.push(("timestamp", r.timestamp.clone()))
    });
    add("two nonces", fresh("GET", "/keyed", ""), ambiguous, |r| {
        r.additional.push(("nonce", r.nonce.clone()))
    });
    add("two signatures", fresh("GET", "/keyed", ""), ambiguous, |r| {
        r.additional.push(("signature", r.signature.clone()))
    });
    add(
        "a body too large",
        fresh("POST", "/keyed", &"x".repeat(1025)),
        "body_too_large",
        |_| (),
    );
    add(
        "the largest body",
        fresh("POST", "/keyed", &"x".repeat(1024)),
        pass,
        |_| (),
    );
    let with = |nonce: &str, timestamp, secret| signed("GET", "/keyed", "", nonce, timestamp, secret);
    cases.extend([
        (
            "the other secret of a rotation",
            with("other-secret", now, OLD),
            pass,
        ),
        (
            "the secret of another key",
            with("beta-secret", now, BETA),
            mismatch,
        ),
        (
            "a timestamp 50 s ahead",
            with("little-early", now + 50, NEW),
            pass,
        ),
        ("a timestamp 50 s ago", with("little-late", now - 50, NEW), pass),
        (
            "a timestamp 90 s ahead",
            with("too-early", now + 90, NEW),
            "signature_skew",
        ),
        (
            "a timestamp 90 s ago",
            with("too-late", now - 90, NEW),
            "signature_skew",
        ),
        ("a nonce of 7 bytes", with("1234567", now, NEW), malformed),
        ("a nonce of 8 bytes", with("12345678", now, NEW), pass),
        ("a nonce of 128 bytes", with(&"n".repeat(128), now, NEW), pass),
        (
            "a nonce of 129 bytes",
            with(&"n".repeat(129), now, NEW),
            malformed,
        ),
        ("a used nonce", with("12345678", now, NEW), "signature_replayed"),
        (
            "a used nonce with another timestamp",
            with("12345678", now + 1, NEW),
            "signature_replayed",
        ),
        (
            "a used nonce with the other secret",
            with("12345678", now, OLD),
            "signature_replayed",
        ),
        (
            "a used nonce with another key",
            SignedRequest {
                key_id: "beta".to_owned(),
                ..with("12345678", now, BETA)
            },
            pass,
        ),
    ]);
    cases
}

#[tokio::test]
async fn only_unchanged_and_fresh_requests_are_admitted() {
    let fixture = start();
    let client = client(Version::Http1);
    for (name, request, reason) in cases() {
        let before = fixture.decision_counts();
        fixture.api.reset();
        let response = request.to_request().send(&client, &fixture).await;
        let (status, code) = match reason {
            "admitted" => (200, None),
            "body_too_large" => (413, Some(reason)),
            "credentials_missing" | "credentials_ambiguous" => (401, Some(reason)),
            _ => (401, Some("signature_invalid")),
        };
        response.expect(status, code, name);
        fixture.expect_decision(&before, &format!("keyed.{reason}"), name);
        let received = fixture.api.requests();
        assert_eq!(received.len(), usize::from(status == 200), "{name}");
        if let Some(received) = received.first() {
            assert_eq!(
                received.header("x-postern-subject"),
                Some(request.key_id.as_str()),
                "{name}"
            );
            assert_eq!(received.header("x-postern-method"), Some("signature"), "{name}");
            let tenant = (request.key_id == "alpha").then_some("acme");
            assert_eq!(received.header("x-postern-tenant"), tenant, "{name}");
            assert_eq!(received.body.as_deref(), Some(request.body.as_bytes()), "{name}");
        }
        // A refusal reveals neither the signed text nor the expected signature.
        let text = response.text();
        let digest = sign::hex(&Sha256::digest(&request.body));
        assert!(status == 200 || !text.contains(&digest), "{name}: {text}");
        assert!(
            status == 200 || !text.contains(&request.signature) || request.signature.is_empty(),
            "{name}: {text}"
        );
    }
    fixture.assert_healthy("keyed");
}

/// The same request on 32 concurrent connections, which Envoy distributes over two workers: one is admitted.
#[tokio::test]
async fn a_replay_is_detected_across_workers() {
    let fixture = start();
    let rounds = 10;
    for round in 0..rounds {
        let body = if round % 2 == 0 { "" } else { "body" };
        let method = if round % 2 == 0 { "GET" } else { "POST" };
        let request = signed(
            method,
            "/keyed",
            body,
            &format!("replayed-{round}"),
            tokens::now(),
            NEW,
        );
        let clients: Vec<_> = (0..32).map(|_| client(Version::Http1)).collect();
        let url = fixture.envoy.url("");
        let pending: Vec<_> = clients
            .into_iter()
            .map(|client| {
                let (request, url) = (request.to_request(), url.clone());
                tokio::spawn(async move { request.send_to(&client, &url).await })
            })
            .collect();
        let mut passed = 0;
        for response in pending {
            let response = response.await.unwrap().unwrap();
            match response.status {
                200 => passed += 1,
                _ => response.expect(401, Some("signature_invalid"), "a replay"),
            }
        }
        assert_eq!(passed, 1, "round {round}");
    }
    assert_eq!(fixture.api.count(), rounds);
    fixture.expect_count("keyed.signature_replayed", 31 * rounds as u64);
    let workers = fixture
        .envoy
        .stats("listener.")
        .into_iter()
        .filter(|(name, count)| {
            name.contains("worker_") && name.ends_with("downstream_cx_total") && *count > 0
        });
    assert_eq!(workers.count(), 2, "both workers served requests");
    fixture.assert_healthy("replays");
}
