//! A host that the gate reads in one way and a server behind it in another passes the rules of the first host and is
//! served as the second.

use postern_e2e::{Connection, Fixture, Http2, Setup};
use postern_testbed::sign;
use serde_json::json;

/// Written so, some server takes each of these for `admin.example.com`, or for a host below `wild.example.com`.
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

/// Status over HTTP/1.1, and whether the answer is the gate's.
async fn http1(fixture: &Fixture, authority: &str) -> (u16, Option<String>) {
    let mut connection = Connection::open(fixture.envoy.addr()).await;
    let request = format!("GET /orders HTTP/1.1\r\nhost: {authority}\r\n\r\n");
    connection.write(request.as_bytes()).await;
    let answer = connection.answer().await.expect("an answer");
    (answer.status, answer.code())
}

#[tokio::test]
async fn a_host_that_two_servers_read_differently_is_refused() {
    let fixture = start();
    for authority in AMBIGUOUS {
        let (status, _) = http1(&fixture, authority).await;
        assert_eq!(status, 400, "HTTP/1.1, {authority:?}");
        let body = Http2::get(fixture.envoy.addr(), authority, "/orders")
            .await
            .body_unless_refused()
            .await;
        // Envoy closes the connection on what it refuses itself.
        let refused =
            body.is_none_or(|body| body.is_empty() || body.windows(14).any(|w| w == b"host_ambiguous"));
        assert!(refused, "HTTP/2, {authority:?}");
    }
    assert_eq!(fixture.api.requests().len(), 0, "some reached the API");
    for authority in [
        "admin.example.com:abc",
        ".wild.example.com",
        "admin.example.com;x",
    ] {
        let wanted = (400, Some("host_ambiguous".to_owned()));
        assert_eq!(http1(&fixture, authority).await, wanted, "{authority}");
    }
}

#[tokio::test]
async fn every_spelling_of_a_host_meets_its_rule() {
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
