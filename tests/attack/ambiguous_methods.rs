//! A method that the gate and the upstream read differently would bypass the rules for the upstream's reading.

use postern_e2e::{Http1Connection, Http2Stream, Setup};
use postern_testbed::sign;
use serde_json::json;

#[tokio::test]
async fn a_method_in_lower_case_is_refused() {
    let fixture = Setup::new(json!({
        "api_keys": {"agents": {"keys": [{"id": "ci", "digest": sign::api_key_digest("key")}]}},
        "rules": [
            {"name": "writes", "match": {"methods": ["POST", "DELETE"]}, "authenticate": {"any": ["api_keys/agents"]}},
            {"name": "reads", "open": true},
        ],
    }))
    .start();
    for method in ["post", "Post", "pOST", "delete", "get"] {
        let response = Http2Stream::request(fixture.envoy.addr(), method, "api.example.com", "/orders").await;
        let body = response.try_body().await;
        let refused = body.is_none_or(|body| {
            let body = String::from_utf8_lossy(&body).into_owned();
            body.is_empty() || body.contains("method_ambiguous")
        });
        assert!(refused, "HTTP/2, {method}");
        let mut connection = Http1Connection::open(fixture.envoy.addr()).await;
        let request =
            format!("{method} /orders HTTP/1.1\r\nhost: api.example.com\r\ncontent-length: 0\r\n\r\n");
        connection.write(request.as_bytes()).await;
        let response = connection.read_response().await.expect("a response");
        assert_eq!(response.status, 400, "HTTP/1.1, {method}");
    }
    assert_eq!(fixture.api.requests().len(), 0, "a request reached the API");
    let response = Http2Stream::request(fixture.envoy.addr(), "GET", "api.example.com", "/orders").await;
    assert!(!response.body().await.is_empty());
    assert_eq!(fixture.api.requests().len(), 1);
}
