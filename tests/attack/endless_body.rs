//! Requests whose body never ends, or says that it is longer than a number can hold, where the gate must read it whole.

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

/// The filter's addresses have 32 bits: such a length once read as none at all, and the request waited for its body.
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
        let begun = Instant::now();
        let head = format!(
            "POST /hook HTTP/1.1\r\nhost: api.example\r\nx-hub-signature-256: {}\r\ncontent-length: {length}\r\n\r\n",
            sign::github(SECRET, "")
        );
        let answer = exchange(fixture.envoy.addr(), head).await;
        answer.expect(413, Some("body_too_large"), length);
        assert!(begun.elapsed() < Duration::from_secs(5), "{length}");
    }
    fixture.assert_sound("lengths");
}

#[tokio::test]
async fn an_upgrade_under_a_signature_is_refused_and_not_hung() {
    let fixture = fixture();
    let head = |path: &str, more: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nhost: api.example\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        )
    };
    let signature = format!("x-hub-signature-256: {}\r\n", sign::github(SECRET, ""));
    let begun = Instant::now();
    let answer = exchange(fixture.envoy.addr(), head("/hook", &signature)).await;
    answer.expect(400, Some("upgrade_refused"), "signed");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let answer = exchange(fixture.envoy.addr(), head("/hook", "")).await;
    answer.expect(401, Some("credentials_missing"), "not signed");
    let answer = exchange(fixture.envoy.addr(), head("/open", "")).await;
    assert_eq!(
        answer.code(),
        None,
        "an upgrade that nothing must read: {answer:?}"
    );
    fixture.expect_count("signed.upgrade_refused", 1);
    fixture.assert_sound("upgrades");
}
