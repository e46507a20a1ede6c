//! A method that the gate reads in one way and a server behind it in another passes the rules of the first.

use postern_e2e::{Connection, Http2, Setup};
use postern_testbed::sign;
use serde_json::json;

#[tokio::test]
async fn a_method_in_lower_case_passes_no_rule() {
    let fixture = Setup::new(json!({
        "api_keys": {"agents": {"keys": [{"id": "ci", "digest": sign::api_key_digest("key")}]}},
        "rules": [
            {"name": "writes", "match": {"methods": ["POST", "DELETE"]}, "authenticate": {"any": ["api_keys/agents"]}},
            {"name": "reads", "open": true},
        ],
    }))
    .start();
    for method in ["post", "Post", "pOST", "delete", "get"] {
        let answer = Http2::request(fixture.envoy.addr(), method, "api.example.com", "/orders").await;
        let body = answer.body_unless_refused().await;
        let refused = body.is_none_or(|body| {
            let body = String::from_utf8_lossy(&body).into_owned();
            body.is_empty() || body.contains("method_ambiguous")
        });
        assert!(refused, "HTTP/2, {method}");
        let mut connection = Connection::open(fixture.envoy.addr()).await;
        let request =
            format!("{method} /orders HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 0\r\n\r\n");
        connection.write(request.as_bytes()).await;
        let answer = connection.answer().await.expect("an answer");
        assert_eq!(answer.status, 400, "HTTP/1.1, {method}");
    }
    assert_eq!(fixture.api.requests().len(), 0, "some reached the API");
    let answer = Http2::request(fixture.envoy.addr(), "GET", "api.example.com", "/orders").await;
    assert!(!answer.body().await.is_empty());
    assert_eq!(fixture.api.requests().len(), 1);
}
