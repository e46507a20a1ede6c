//! Headers that say who is calling are the gate's alone, whatever a server behind it takes for them.

use postern_e2e::{Connection, Setup};
use postern_testbed::sign;
use serde_json::json;

fn setup() -> Setup {
    Setup::new(json!({
        "api_keys": {"agents": {"keys": [{"id": "reader", "digest": sign::api_key_digest("key")}]}},
        "rules": [
            {"name": "open", "match": {"path": {"prefix": "/open"}}, "open": true},
            {"name": "gated", "authenticate": {"any": ["api_keys/agents"]}},
        ],
    }))
}

/// To CGI-like servers each of these is `HTTP_X_POSTERN_ROLES`.
const SPELLINGS: [&str; 12] = [
    "x-postern-roles",
    "X-Postern_Roles",
    "x_postern_roles",
    "x.postern.roles",
    "x-postern.roles",
    "x!postern!roles",
    "x+postern+roles",
    "x|postern|roles",
    "x`postern`roles",
    "x'postern'roles",
    "x~postern~roles",
    "x#postern$roles",
];

#[tokio::test]
async fn no_spelling_of_an_identity_header_passes() {
    let fixture = setup().start();
    let mut passed = 0;
    for path in ["/open", "/gated"] {
        for name in SPELLINGS {
            let mut connection = Connection::open(fixture.envoy.addr()).await;
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-api-key: key\r\n{name}: Admin\r\n\r\n");
            connection.write(request.as_bytes()).await;
            // Some are refused by Envoy itself, which is as well.
            passed += usize::from(connection.answer().await.expect("an answer").status == 200);
        }
    }
    let requests = fixture.api.requests();
    assert_eq!(requests.len(), passed);
    assert!(passed >= SPELLINGS.len(), "{passed}");
    for request in &requests {
        assert!(!format!("{request:?}").contains("Admin"), "{request:?}");
    }
}

/// A proxy behind the gate that obeys `Connection` would drop what it names.
#[tokio::test]
async fn no_client_has_identity_headers_dropped_behind_the_gate() {
    let fixture = setup()
        .connection_manager("upgrade_configs: [{upgrade_type: websocket}]")
        .start();
    for (connection_header, status) in [
        ("upgrade, x-postern-subject, x-postern-roles", 400),
        ("Upgrade,x-api-key", 400),
    ] {
        let mut connection = Connection::open(fixture.envoy.addr()).await;
        let request = format!(
            "GET /gated HTTP/1.1\r\nhost: a\r\nx-api-key: key\r\nconnection: {connection_header}\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        connection.write(request.as_bytes()).await;
        let answer = connection.answer().await.expect("an answer");
        assert_eq!(answer.status, status, "{connection_header}");
        assert_eq!(
            answer.code().as_deref(),
            Some("connection_ambiguous"),
            "{connection_header}"
        );
    }
    assert_eq!(fixture.api.requests().len(), 0);
}
