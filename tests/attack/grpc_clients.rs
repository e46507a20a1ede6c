//! gRPC clients ignore the HTTP status: `grpc-status` decides whether they retry at once.

use postern_e2e::{Request, Setup, Version, client};
use postern_testbed::sign;
use serde_json::json;

#[tokio::test]
async fn grpc_clients_get_a_status_and_a_message() {
    let gate = json!({
        "api_keys": {"agents": {"keys": [{"id": "ci", "digest": sign::api_key_digest("key")}]}},
        "signatures": {"hook": {"scheme": "github", "secrets": [{"env": "HOOK_SECRET"}], "max_body": "8B"}},
        "limits": {"one": {"quota": 1, "window": "600s", "key": ["subject"]}},
        "rules": [
            {"name": "signed", "match": {"path": {"exact": "/s.S/Signed"}}, "authenticate": {"any": ["signatures/hook"]}},
            {"name": "limited", "match": {"path": {"exact": "/s.S/Limited"}}, "authenticate": {"any": ["api_keys/agents"]},
             "limits": ["one"]},
            {"name": "admin", "match": {"path": {"exact": "/s.S/Admin"}}, "authenticate": {"any": ["api_keys/agents"]},
             "authorize": {"roles": ["Admin"]}},
        ],
    });
    let secret = "a-webhook-secret-that-nobody-knows";
    let fixture = Setup::new(gate).env("HOOK_SECRET", secret).start();
    let http = client(Version::Http2);
    let request = |path: &str| Request::post(path, b"\0\0\0\0\0".to_vec()).header("te", "trailers");
    let limited = request("/s.S/Limited").api_key("key");
    assert_eq!(
        limited.send(&http, &fixture).await.status,
        200,
        "the first of the limit"
    );
    for form in ["application/grpc", "application/grpc+proto"] {
        for (name, request, status) in [
            ("limited", limited.clone(), "8"),
            (
                "too large",
                Request::post("/s.S/Signed", "more than 8 bytes")
                    .header("x-hub-signature-256", sign::github(secret, "more than 8 bytes")),
                "8",
            ),
            ("ambiguous", request("/s.S//Limited"), "3"),
            ("missing", request("/s.S/Limited"), "16"),
            ("no role", request("/s.S/Admin").api_key("key"), "7"),
            ("no rule", request("/s.S/None"), "7"),
        ] {
            let response = request.header("content-type", form).send(&http, &fixture).await;
            assert_eq!(response.status, 200, "{name}: {response:?}");
            assert_eq!(
                response.header("content-type"),
                Some("application/grpc"),
                "{name}: {response:?}"
            );
            assert_eq!(
                response.header("grpc-status"),
                Some(status),
                "{name}: {response:?}"
            );
            let message = response.header("grpc-message").unwrap_or_default();
            assert!(
                message.contains(' ') && !message.contains(['{', '%', '"']),
                "{name}: {message:?}"
            );
        }
    }
    // Other clients get problem details.
    let response = limited.send(&http, &fixture).await;
    response.expect(429, Some("limit_exceeded"), "not gRPC");
    fixture.assert_healthy("grpc");
}
