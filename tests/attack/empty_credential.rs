//! Credential headers without a value, as a client with an unset variable sends them.

use postern_e2e::{Setup, exchange};
use postern_testbed::sign;
use serde_json::json;

#[tokio::test]
async fn an_empty_credential_counts_as_missing() {
    let gate = json!({
        "issuers": {"own": {"issuer": "i", "audiences": ["a"], "algorithms": ["HS256"], "secret": {"env": "SECRET"}}},
        "api_keys": {"agents": {"keys": [{"id": "ci", "digest": sign::api_key_digest("key")}]}},
        "signatures": {
            "hook": {"scheme": "github", "secrets": [{"env": "SECRET"}]},
            "bots": {"scheme": "keyed", "header_prefix": "x-bot-", "keys": [{"id": "b", "secrets": [{"env": "SECRET"}]}]},
        },
        "rules": [{"name": "any", "authenticate": {"any": [
            "issuers/own", "signatures/hook", "signatures/bots", "api_keys/agents",
        ]}}],
    });
    let fixture = Setup::new(gate)
        .env("SECRET", "0123456789abcdef0123456789abcdef")
        .start();
    let send = async |lines: &str| {
        let head = format!("GET /x HTTP/1.1\r\nhost: api.example\r\n{lines}\r\n");
        exchange(fixture.envoy.addr(), head).await
    };
    for line in [
        "x-api-key:\r\n",
        "x-api-key:  \t \r\n",
        "authorization:\r\n",
        "authorization: Bearer\r\n",
        "authorization: Bearer \r\n",
        "x-hub-signature-256:\r\n",
        "x-bot-signature:\r\n",
        "x-bot-signature:\r\nx-bot-key-id: b\r\n",
    ] {
        send(line).await.expect(401, Some("credentials_missing"), line);
        let with_a_key = send(&format!("{line}x-api-key: key\r\n")).await;
        // Two headers of one credential are refused even if one is empty.
        match line.starts_with("x-api-key") {
            true => with_a_key.expect(401, Some("credentials_ambiguous"), line),
            false => assert_eq!(with_a_key.status, 200, "{line:?}"),
        }
    }
    fixture.assert_healthy("empty");
}

/// An API key digest generated from an unset variable would admit everyone.
#[test]
fn the_digest_of_an_empty_key_is_rejected() {
    for empty in ["", "\n"] {
        let gate = json!({
            "api_keys": {"agents": {"keys": [{"id": "ci", "digest": sign::api_key_digest(empty)}]}},
            "rules": [{"name": "any", "authenticate": {"any": ["api_keys/agents"]}}],
        });
        let log = Setup::new(gate).rejection_log("the digest of an empty key");
        assert!(
            log.contains("api_keys.agents.keys[0].digest: is the digest of an empty value"),
            "{log}"
        );
    }
}
