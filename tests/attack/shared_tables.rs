//! One caller must not evict the rate limit counts or nonces of others by filling a shared table.

use std::time::{SystemTime, UNIX_EPOCH};

use postern_e2e::{Fixture, Http1Connection, Request, Response, Setup, Version, client};
use postern_testbed::sign;
use serde_json::{Value, json};

fn gate(nonces: u32, max_skew: &str) -> Value {
    let gated = json!({"any": ["api_keys/agents"]});
    json!({
        "api_keys": {"agents": {"keys": [{"id": "victim", "digest": sign::api_key_digest("victim")}]}},
        "signatures": {"bots": {
            "scheme": "keyed", "header_prefix": "x-bot-", "max_skew": max_skew, "nonces": nonces,
            "keys": [
                {"id": "loud", "secrets": [{"env": "LOUD_SECRET"}]},
                {"id": "quiet", "secrets": [{"env": "QUIET_SECRET"}]},
            ],
        }},
        "limits": {
            "anybody": {"quota": 1, "window": "1d", "key": ["header:x-client"], "keys": 4096},
            "victim": {"quota": 5, "window": "1h", "key": ["subject"], "keys": 4096},
        },
        "rules": [
            {"name": "open", "match": {"path": {"prefix": "/direct/open"}}, "open": true, "limits": ["anybody"]},
            {"name": "gated", "match": {"path": {"prefix": "/direct/gated"}}, "authenticate": gated, "limits": ["victim"]},
            {"name": "signed", "match": {"path": {"prefix": "/direct/signed"}},
             "authenticate": {"any": ["signatures/bots"]}},
        ],
    })
}

fn setup(nonces: u32, max_skew: &str) -> Setup {
    Setup::new(gate(nonces, max_skew))
        .env("LOUD_SECRET", LOUD)
        .env("QUIET_SECRET", QUIET)
}

const LOUD: &str = "the-secret-of-the-loud-one-000000";
const QUIET: &str = "the-secret-of-the-quiet-one-00000";

/// Sends these requests, 50 per connection, and reads the responses.
async fn send_all(fixture: &Fixture, requests: &[String]) -> Vec<Response> {
    let mut responses = Vec::new();
    for batch in requests.chunks(50) {
        let mut connection = Http1Connection::open(fixture.envoy.addr()).await;
        for request in batch {
            connection.write(request.as_bytes()).await;
            responses.push(connection.read_response().await.expect("a response"));
        }
    }
    responses
}

fn signed(key: &str, secret: &str, nonce: &str, timestamp: u64) -> String {
    let path = "/direct/signed/x";
    let signature = sign::keyed(secret, "GET", path, timestamp, nonce, b"");
    format!(
        "GET {path} HTTP/1.1\r\nhost: a\r\nx-bot-key-id: {key}\r\nx-bot-timestamp: {timestamp}\r\n\
         x-bot-nonce: {nonce}\r\nx-bot-signature: {signature}\r\n\r\n"
    )
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_flood_of_one_limit_resets_no_other_count() {
    let fixture = setup(1_024, "300s").start();
    let client = client(Version::Http1);
    let victim = Request::get("/direct/gated").api_key("victim");
    for _ in 0..5 {
        victim
            .send(&client, &fixture)
            .await
            .expect(200, None, "within the quota");
    }
    // More keys than the flooded limit has slots.
    let flood: Vec<String> = (0..90_000)
        .map(|n| format!("GET /direct/open HTTP/1.1\r\nhost: a\r\nx-client: {n}\r\n\r\n"))
        .collect();
    for response in send_all(&fixture, &flood).await {
        response.expect(200, None, "the first request of each key");
    }
    for _ in 0..20 {
        let response = victim.send(&client, &fixture).await;
        response.expect(429, Some("limit_exceeded"), "the count is kept");
    }
    fixture.assert_healthy("a flood");
}

#[tokio::test]
async fn a_key_that_fills_its_nonce_table_permits_no_replay_of_others() {
    let fixture = setup(1_024, "300s").start();
    let used = signed("quiet", QUIET, "nonce-of-quiet", now());
    let first = send_all(&fixture, std::slice::from_ref(&used)).await;
    first[0].expect(200, None, "the first use");
    let flood: Vec<String> = (0..30_000)
        .map(|n| signed("loud", LOUD, &format!("flood-nonce-{n}"), now()))
        .collect();
    let responses = send_all(&fixture, &flood).await;
    let full = responses
        .iter()
        .filter(|response| response.status_and_code() == (503, Some("replay_memory_full".to_owned())))
        .count();
    let passed = responses.iter().filter(|response| response.status == 200).count();
    assert_eq!(passed + full, flood.len());
    assert!(full > 1_000, "{full} refused because the table is full");
    // Admitted requests cannot be replayed, and the other key is unaffected.
    for (request, response) in flood.iter().zip(&responses).take(200) {
        if response.status == 200 {
            let again = send_all(&fixture, std::slice::from_ref(request)).await;
            again[0].expect(401, Some("signature_invalid"), "a replay by the loud key");
        }
    }
    let again = send_all(&fixture, &[used, signed("quiet", QUIET, "another-nonce", now())]).await;
    again[0].expect(401, Some("signature_invalid"), "a replay by the quiet key");
    again[1].expect(200, None, "a new nonce of the quiet key");
    fixture.expect_count("signed.replay_memory_full", full as u64);
    fixture.assert_healthy("nonces");
}
