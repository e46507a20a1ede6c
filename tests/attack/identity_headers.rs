//! Only the gate sets identity headers, in any spelling that an upstream may read as one.

use postern_e2e::{Http1Connection, Setup};
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

/// CGI-like servers read each of these as `HTTP_X_POSTERN_ROLES`.
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
async fn no_spelling_of_an_identity_header_reaches_the_api() {
    let fixture = setup().start();
    let mut passed = 0;
    for path in ["/open", "/gated"] {
        for name in SPELLINGS {
            let mut connection = Http1Connection::open(fixture.envoy.addr()).await;
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-api-key: key\r\n{name}: Admin\r\n\r\n");
            connection.write(request.as_bytes()).await;
            // Envoy itself may refuse some of them.
            passed += usize::from(connection.read_response().await.expect("a response").status == 200);
        }
    }
    let requests = fixture.api.requests();
    assert_eq!(requests.len(), passed);
    assert!(passed >= SPELLINGS.len(), "{passed}");
    for request in &requests {
        assert!(!format!("{request:?}").contains("Admin"), "{request:?}");
    }
}

/// A proxy behind the gate that honours `Connection` would drop the headers it names.
#[tokio::test]
async fn a_connection_header_that_names_other_headers_is_refused_on_upgrades() {
    let fixture = setup()
        .connection_manager("upgrade_configs: [{upgrade_type: websocket}]")
        .start();
    for (connection_header, status) in [
        ("upgrade, x-postern-subject, x-postern-roles", 400),
        ("Upgrade,x-api-key", 400),
    ] {
        let mut connection = Http1Connection::open(fixture.envoy.addr()).await;
        let request = format!(
            "GET /gated HTTP/1.1\r\nhost: a\r\nx-api-key: key\r\nconnection: {connection_header}\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        connection.write(request.as_bytes()).await;
        let response = connection.read_response().await.expect("a response");
        assert_eq!(response.status, status, "{connection_header}");
        assert_eq!(
            response.code().as_deref(),
            Some("connection_ambiguous"),
            "{connection_header}"
        );
    }
    assert_eq!(fixture.api.requests().len(), 0);
}
