//! Requests with an endless body, or with a `content-length` beyond 32 bits, where the gate must read the whole body.

use std::time::{Duration, Instant};

use postern_e2e::{Fixture, Setup, exchange};
use postern_testbed::sign;
use serde_json::json;

const SECRET: &str = "a-webhook-secret-that-nobody-knows";

fn fixture() -> Fixture {
    let gate = json!({
        "signatures": {"hook": {"scheme": "github", "secrets": [{"env": "HOOK_SECRET"}], "max_body": "64KiB"}},
        "rules": [
            {"name": "open", "match": {"path": {"exact": "/open"}}, "open": true},
            {"name": "signed", "authenticate": {"any": ["signatures/hook"]}},
        ],
    });
    Setup::new(gate)
        .env("HOOK_SECRET", SECRET)
        .connection_manager("upgrade_configs: [{upgrade_type: websocket}]")
        .start()
}

/// In the filter `usize` has 32 bits: such a length was once taken as absent, and the request waited for its body.
#[tokio::test]
async fn a_length_beyond_32_bits_is_refused_at_once() {
    let fixture = fixture();
    for length in [
        "65537",
        "4294967295",
        "4294967296",
        "4294967297",
        "9223372036854775807",
    ] {
        let started = Instant::now();
        let head = format!(
            "POST /hook HTTP/1.1\r\nhost: api.example\r\nx-hub-signature-256: {}\r\ncontent-length: {length}\r\n\r\n",
            sign::github(SECRET, "")
        );
        let response = exchange(fixture.envoy.addr(), head).await;
        response.expect(413, Some("body_too_large"), length);
        assert!(started.elapsed() < Duration::from_secs(5), "{length}");
    }
    fixture.assert_healthy("lengths");
}

#[tokio::test]
async fn an_upgrade_with_a_signed_body_is_refused_without_waiting() {
    let fixture = fixture();
    let head = |path: &str, more: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nhost: api.example\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        )
    };
    let signature = format!("x-hub-signature-256: {}\r\n", sign::github(SECRET, ""));
    let started = Instant::now();
    let response = exchange(fixture.envoy.addr(), head("/hook", &signature)).await;
    response.expect(400, Some("upgrade_refused"), "signed");
    assert!(started.elapsed() < Duration::from_secs(5));
    let response = exchange(fixture.envoy.addr(), head("/hook", "")).await;
    response.expect(401, Some("credentials_missing"), "not signed");
    let response = exchange(fixture.envoy.addr(), head("/open", "")).await;
    assert_eq!(
        response.code(),
        None,
        "an upgrade under an open rule: {response:?}"
    );
    fixture.expect_count("signed.upgrade_refused", 1);
    fixture.assert_healthy("upgrades");
}
