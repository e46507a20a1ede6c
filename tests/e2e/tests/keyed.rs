//! The `keyed` scheme as a client meets it: what is signed cannot be changed, and nothing is accepted twice.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "for tests: what does not work ends the test"
)]

use postern_e2e::{Call, Fixture, Setup, Version, client};
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

/// A request and what is said about it; first signed, then changed.
#[derive(Clone)]
struct Request {
    method: &'static str,
    target: String,
    body: String,
    key_id: String,
    timestamp: String,
    nonce: String,
    signature: String,
    /// Header lines besides, by what follows the prefix.
    more: Vec<(&'static str, String)>,
    without: Option<&'static str>,
}

/// Signed as docs/configuration.md says, without the gate's own code.
fn signed(
    method: &'static str,
    target: &str,
    body: &str,
    nonce: &str,
    timestamp: i64,
    secret: &str,
) -> Request {
    let digest = sign::hex(&Sha256::digest(body));
    let text = format!("{method}\n{target}\n{timestamp}\n{nonce}\n{digest}");
    Request {
        method,
        target: target.to_owned(),
        body: body.to_owned(),
        key_id: "alpha".to_owned(),
        timestamp: timestamp.to_string(),
        nonce: nonce.to_owned(),
        signature: sign::hex(&sign::hmac_sha256(secret.as_bytes(), text.as_bytes())),
        more: Vec::new(),
        without: None,
    }
}

impl Request {
    fn call(&self) -> Call {
        let call = match self.body.as_str() {
            "" => Call::new(self.method, &self.target),
            body => Call::post(&self.target, body).method(self.method),
        };
        let own = [
            ("key-id", &self.key_id),
            ("timestamp", &self.timestamp),
            ("nonce", &self.nonce),
            ("signature", &self.signature),
        ];
        let own = own.into_iter().filter(|(name, _)| Some(*name) != self.without);
        let more = self.more.iter().map(|(name, value)| (*name, value));
        own.chain(more).fold(call, |call, (name, value)| {
            call.header(&format!("x-sig-{name}"), value)
        })
    }
}

/// Cases that begin with a request in order, each with a nonce of its own.
fn cases() -> Vec<(&'static str, Request, &'static str)> {
    let mut number = 0;
    let now = tokens::now();
    let mut fresh = |method, target: &str, body: &str| {
        number += 1;
        signed(method, target, body, &format!("nonce-{number:04}"), now, NEW)
    };
    let mut cases = Vec::new();
    let mut add = |name, request: Request, reason, change: fn(&mut Request)| {
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
        "escapes stay as they are",
        fresh("GET", "/keyed/%41", ""),
        pass,
        |_| (),
    );
    add(
        "capitals in the signature",
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
    add("a query more", fresh("GET", "/keyed", ""), mismatch, |r| {
        r.target = "/keyed?a=1".into()
    });
    add("a query less", fresh("GET", "/keyed?a=1", ""), mismatch, |r| {
        r.target = "/keyed".into()
    });
    add("another method", fresh("GET", "/keyed", ""), mismatch, |r| {
        r.method = "DELETE"
    });
    add("another body", fresh("POST", "/keyed", "body"), mismatch, |r| {
        r.body = "Body".into()
    });
    add("no body", fresh("POST", "/keyed", "body"), mismatch, |r| {
        r.body.clear()
    });
    add("a body more", fresh("POST", "/keyed", ""), mismatch, |r| {
        r.body = "body".into()
    });
    add("another nonce", fresh("GET", "/keyed", ""), mismatch, |r| {
        r.nonce.push('x')
    });
    add("another time", fresh("GET", "/keyed", ""), mismatch, |r| {
        r.timestamp = (r.timestamp.parse::<i64>().unwrap() - 1).to_string();
    });
    add("another caller", fresh("GET", "/keyed", ""), mismatch, |r| {
        r.key_id = "beta".into()
    });
    add(
        "an unknown caller",
        fresh("GET", "/keyed", ""),
        "signature_key_unknown",
        |r| r.key_id = "gamma".into(),
    );
    add(
        "a caller in capitals",
        fresh("GET", "/keyed", ""),
        "signature_key_unknown",
        |r| r.key_id = "Alpha".into(),
    );
    add(
        "a caller of 129 bytes",
        fresh("GET", "/keyed", ""),
        malformed,
        |r| r.key_id = "k".repeat(129),
    );
    add("a time with a sign", fresh("GET", "/keyed", ""), malformed, |r| {
        r.timestamp.insert(0, '+')
    });
    add("a time in words", fresh("GET", "/keyed", ""), malformed, |r| {
        r.timestamp = "now".into()
    });
    add("an empty time", fresh("GET", "/keyed", ""), malformed, |r| {
        r.timestamp.clear()
    });
    add(
        "a time in milliseconds",
        fresh("GET", "/keyed", ""),
        "signature_skew",
        |r| r.timestamp.push_str("000"),
    );
    add(
        "a time beyond numbers",
        fresh("GET", "/keyed", ""),
        malformed,
        |r| r.timestamp = "9".repeat(30),
    );
    add(
        "the largest time",
        fresh("GET", "/keyed", ""),
        "signature_skew",
        |r| r.timestamp = u64::MAX.to_string(),
    );
    add("a signature cut", fresh("GET", "/keyed", ""), malformed, |r| {
        r.signature.truncate(62)
    });
    add(
        "a signature too long",
        fresh("GET", "/keyed", ""),
        malformed,
        |r| r.signature.push_str("00"),
    );
    add("no hexadecimal", fresh("GET", "/keyed", ""), malformed, |r| {
        r.signature = "z".repeat(64)
    });
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
        |r| r.without = Some("signature"),
    );
    add("no caller", fresh("GET", "/keyed", ""), malformed, |r| {
        r.without = Some("key-id")
    });
    add("no time", fresh("GET", "/keyed", ""), malformed, |r| {
        r.without = Some("timestamp")
    });
    add("no nonce", fresh("GET", "/keyed", ""), malformed, |r| {
        r.without = Some("nonce")
    });
    let ambiguous = "credentials_ambiguous";
    add("two callers", fresh("GET", "/keyed", ""), ambiguous, |r| {
        r.more.push(("key-id", "alpha".into()))
    });
    add("two times", fresh("GET", "/keyed", ""), ambiguous, |r| {
        r.more.push(("timestamp", r.timestamp.clone()))
    });
    add("two nonces", fresh("GET", "/keyed", ""), ambiguous, |r| {
        r.more.push(("nonce", r.nonce.clone()))
    });
    add("two signatures", fresh("GET", "/keyed", ""), ambiguous, |r| {
        r.more.push(("signature", r.signature.clone()))
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
            "a secret of somebody else",
            with("beta-secret", now, BETA),
            mismatch,
        ),
        ("a little early", with("little-early", now + 50, NEW), pass),
        ("a little late", with("little-late", now - 50, NEW), pass),
        ("too early", with("too-early", now + 90, NEW), "signature_skew"),
        ("too late", with("too-late", now - 90, NEW), "signature_skew"),
        ("a nonce of 7 bytes", with("1234567", now, NEW), malformed),
        ("a nonce of 8 bytes", with("12345678", now, NEW), pass),
        ("a nonce of 128 bytes", with(&"n".repeat(128), now, NEW), pass),
        (
            "a nonce of 129 bytes",
            with(&"n".repeat(129), now, NEW),
            malformed,
        ),
        (
            "a nonce that came",
            with("12345678", now, NEW),
            "signature_replayed",
        ),
        (
            "a nonce that came, later",
            with("12345678", now + 1, NEW),
            "signature_replayed",
        ),
        (
            "a nonce that came, by the other secret",
            with("12345678", now, OLD),
            "signature_replayed",
        ),
        (
            "the same nonce of another caller",
            Request {
                key_id: "beta".to_owned(),
                ..with("12345678", now, BETA)
            },
            pass,
        ),
    ]);
    cases
}

#[tokio::test]
async fn signed_and_changed() {
    let fixture = start();
    let client = client(Version::Http1);
    for (name, request, reason) in cases() {
        let before = fixture.decisions();
        fixture.api.reset();
        let answer = request.call().send(&client, &fixture).await;
        let (status, code) = match reason {
            "admitted" => (200, None),
            "body_too_large" => (413, Some(reason)),
            "credentials_missing" | "credentials_ambiguous" => (401, Some(reason)),
            _ => (401, Some("signature_invalid")),
        };
        answer.expect(status, code, name);
        fixture.expect_decision(&before, &format!("keyed.{reason}"), name);
        let seen = fixture.api.requests();
        assert_eq!(seen.len(), usize::from(status == 200), "{name}");
        if let Some(seen) = seen.first() {
            assert_eq!(
                seen.header("x-postern-subject"),
                Some(request.key_id.as_str()),
                "{name}"
            );
            assert_eq!(seen.header("x-postern-method"), Some("signature"), "{name}");
            let tenant = (request.key_id == "alpha").then_some("acme");
            assert_eq!(seen.header("x-postern-tenant"), tenant, "{name}");
            assert_eq!(seen.body.as_deref(), Some(request.body.as_bytes()), "{name}");
        }
        // Neither what was to be signed nor what the signature would have been.
        let text = answer.text();
        let digest = sign::hex(&Sha256::digest(&request.body));
        assert!(status == 200 || !text.contains(&digest), "{name}: {text}");
        assert!(
            status == 200 || !text.contains(&request.signature) || request.signature.is_empty(),
            "{name}: {text}"
        );
    }
    fixture.assert_sound("keyed");
}

/// The same request on 32 connections at once, which Envoy spreads over its two workers: one passes.
#[tokio::test]
async fn a_replay_is_seen_by_all_workers() {
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
                let (call, url) = (request.call(), url.clone());
                tokio::spawn(async move { call.send_to(&client, &url).await })
            })
            .collect();
        let mut passed = 0;
        for answer in pending {
            let answer = answer.await.unwrap().unwrap();
            match answer.status {
                200 => passed += 1,
                _ => answer.expect(401, Some("signature_invalid"), "a replay"),
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
    assert_eq!(workers.count(), 2, "both workers had a part");
    fixture.assert_sound("replays");
}
