//! A host name that the gate and the upstream read differently would pass the rules of one HTTP host and be served by
//! another.

use postern_e2e::{Fixture, Http1Connection, Http2Stream, Setup};
use postern_testbed::sign;
use serde_json::json;

/// Some servers read each of these as `admin.example.com`, or as a subdomain of `wild.example.com`.
const AMBIGUOUS: [&str; 27] = [
    "admin.example.com:abc",
    "admin.example.com:80:80",
    "admin.example.com:-1",
    "admin.example.com:+80",
    "admin.example.com:80a",
    "admin.example.com:65536",
    "admin.example.com:",
    "admin.example.com..",
    "admin.example.com;x",
    "admin.example.com%2e",
    "admin%2eexample.com",
    "admin.example.com(",
    "admin.example.com/",
    "admin.example.com/x",
    "admin.example.com?x",
    "admin.example.com#x",
    "admin.example.com\\x",
    "admin.example.com,x",
    "admin..example.com",
    "x@admin.example.com",
    "admin.example.com@x",
    ".wild.example.com",
    "a.wild.example.com:x",
    "a..wild.example.com",
    "[admin.example.com]",
    "[::1]admin.example.com",
    "",
];

fn start() -> Fixture {
    let gated = json!({"any": ["api_keys/agents"]});
    let gate = json!({
        "api_keys": {"agents": {"keys": [{"id": "ci", "digest": sign::api_key_digest("key")}]}},
        "rules": [
            {"name": "admin", "match": {"hosts": ["admin.example.com"]}, "authenticate": gated},
            {"name": "wild", "match": {"hosts": ["*.wild.example.com"]}, "authenticate": gated},
            {"name": "address", "match": {"hosts": ["[2001:db8::1]"]}, "authenticate": gated},
            {"name": "rest", "open": true},
        ],
    });
    Setup::new(gate).start()
}

/// The status over HTTP/1.1, and the code if the response is a denial of the gate.
async fn http1(fixture: &Fixture, authority: &str) -> (u16, Option<String>) {
    let mut connection = Http1Connection::open(fixture.envoy.addr()).await;
    let request = format!("GET /orders HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    connection.write(request.as_bytes()).await;
    let response = connection.read_response().await.expect("a response");
    (response.status, response.code())
}

#[tokio::test]
async fn an_ambiguous_host_is_refused() {
    let fixture = start();
    for authority in AMBIGUOUS {
        let (status, _) = http1(&fixture, authority).await;
        assert_eq!(status, 400, "HTTP/1.1, {authority:?}");
        let body = Http2Stream::get(fixture.envoy.addr(), authority, "/orders")
            .await
            .try_body()
            .await;
        // Envoy closes the connection when it refuses a request itself.
        let refused =
            body.is_none_or(|body| body.is_empty() || body.windows(14).any(|w| w == b"host_ambiguous"));
        assert!(refused, "HTTP/2, {authority:?}");
    }
    assert_eq!(fixture.api.requests().len(), 0, "a request reached the API");
    for authority in [
        "admin.example.com:abc",
        ".wild.example.com",
        "admin.example.com;x",
    ] {
        let expected = (400, Some("host_ambiguous".to_owned()));
        assert_eq!(http1(&fixture, authority).await, expected, "{authority}");
    }
}

#[tokio::test]
async fn every_spelling_of_a_host_matches_its_rule() {
    let fixture = start();
    for authority in [
        "admin.example.com",
        "ADMIN.example.com:8080",
        "admin.example.com.",
        "admin.example.com.:80",
        "a.wild.example.com:1",
        "a.b.WILD.example.com.",
        "[2001:db8::1]",
        "[2001:DB8:0:0:0:0:0:1]:443",
    ] {
        let (status, code) = http1(&fixture, authority).await;
        assert_eq!(
            (status, code.as_deref()),
            (401, Some("credentials_missing")),
            "{authority}"
        );
    }
    for authority in [
        "wild.example.com",
        "other.example.com:80",
        "192.0.2.1",
        "[2001:db8::2]:80",
    ] {
        assert_eq!(http1(&fixture, authority).await.0, 200, "{authority}");
    }
}
