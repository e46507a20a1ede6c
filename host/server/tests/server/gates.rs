//! What a host does only for its gates, besides checks: signatures, and the audit log.

use crate::support::{TOKEN, WorkDir, allowing_module, check, decide, get};
use ct_codecs::{Base64, Decoder as _};
use ed25519_compact::{PublicKey, Signature};
use postern_serve::Address;
use postern_server::Host;
use postern_testbed::certificates::{Authority, Validity};
use reqwest::{Client, ClientBuilder, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const PARTS: &str =
    "signing: {}\naudit: {store: 'sqlite:audit.db'}\npolicies: {entries: {'yes': {file: yes.wasm}}}";

fn dir() -> WorkDir {
    let dir = WorkDir::new();
    dir.file("yes.wasm", &allowing_module());
    dir
}

fn builder(address: &Address) -> ClientBuilder {
    let builder = postern_testbed::http::builder();
    match address {
        Address::Unix(path) => builder.unix_socket(path.clone()),
        Address::Tcp(_) => builder,
    }
}

fn url(address: &Address, path: &str) -> String {
    match address {
        Address::Unix(_) => format!("http://host{path}"),
        Address::Tcp(address) => format!("http://{address}{path}"),
    }
}

/// Sends JSON; returns the status and the response.
async fn post(address: &Address, path: &str, body: &str, token: Option<&str>) -> (u16, Value) {
    let mut request = builder(address)
        .build()
        .unwrap()
        .post(url(address, path))
        .header("content-type", "application/json")
        .header("x-postern-subject", "ann")
        .header("x-request-id", "r-7")
        .body(body.to_owned());
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}

fn event(kind: &str, id: &str) -> Value {
    json!({"id": id, "kind": kind, "decision": "allowed", "time": "2026-01-01T00:00:00.000000Z", "subject": "ann"})
}

fn batch(events: &[Value]) -> String {
    json!({ "events": events }).to_string()
}

const ID: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

#[tokio::test]
async fn only_authenticated_gates_may_sign_and_record() {
    let dir = dir();
    let sign = json!({"payload_b64": "aGVsbG8="}).to_string();
    let audit = batch(&[event("request", ID)]);
    for (listen, known, token, expected) in [
        ("unix:host.sock", "", None, 200),
        ("127.0.0.1:0", "gate: {token: {env: TOKEN}}", None, 401),
        (
            "127.0.0.1:0",
            "gate: {token: {env: TOKEN}}",
            Some("another-token-of-16"),
            401,
        ),
        ("127.0.0.1:0", "gate: {token: {env: TOKEN}}", Some(TOKEN), 200),
    ] {
        let case = format!("{listen} {known} {token:?}");
        let text = format!("listen: ['{listen}']\n{known}\n{PARTS}");
        let host = dir.try_start(&text).await.unwrap();
        let address = &host.addresses()[0];
        for (path, body) in [("/sign", &sign), ("/v1/audit", &audit)] {
            let (status, response) = post(address, path, body, token).await;
            assert_eq!(status, expected, "{case} {path} {response}");
            if status == 401 {
                assert_eq!(response["code"], "gates_only", "{case}");
            }
        }
        for path in ["/health", "/healthz", "/readyz"] {
            let client = builder(address).build().unwrap();
            let status = client.get(url(address, path)).send().await.unwrap().status();
            assert_eq!(status, StatusCode::OK, "{case} {path}");
        }
        for path in ["/metrics", "/v1/policies", "/healthz/strict", "/"] {
            let client = builder(address).build().unwrap();
            let response = client.get(url(address, path)).send().await.unwrap();
            assert_eq!(response.status(), StatusCode::NOT_FOUND, "{case} {path}");
        }
        host.stop().await.unwrap();
    }
}

/// A port that cannot authenticate gates serves only checks. A host that signs or records must not have such a port.
#[tokio::test]
async fn a_port_without_authentication_serves_only_checks() {
    let dir = dir();
    let listen = "listen: ['unix:host.sock', '127.0.0.1:0']\n";
    let host = dir
        .try_start(&format!(
            "{listen}policies: {{entries: {{'yes': {{file: yes.wasm}}}}}}"
        ))
        .await
        .unwrap();
    let port = &host.addresses()[1];
    let (status, response) = post(port, "/sign", r#"{"payload_b64": ""}"#, Some(TOKEN)).await;
    assert_eq!((status, &response["code"]), (401, &json!("gates_only")));
    let mut client = crate::support::connect(port).await;
    assert_eq!(decide(&mut client, check("yes", "GET", "/")).await, "allowed");
    host.stop().await.unwrap();
    let errors = postern_server::Settings::parse(&format!("{listen}{PARTS}"), &dir.path(""), &|_| None);
    let errors = errors.unwrap_err().to_string();
    assert!(errors.contains("needs a token or TLS"), "{errors}");
}

#[tokio::test]
async fn checks_need_the_token_as_well() {
    let dir = dir();
    let text = format!("listen: ['127.0.0.1:0']\ngate: {{token: {{env: TOKEN}}}}\n{PARTS}");
    let host = dir.try_start(&text).await.unwrap();
    let mut client = crate::support::connect(&host.addresses()[0]).await;
    let refused = client.check(check("yes", "GET", "/")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let mut request = tonic::Request::new(check("yes", "GET", "/"));
    let token = format!("Bearer {TOKEN}").parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    let response = client.check(request).await.unwrap();
    assert_eq!(crate::support::describe(response.get_ref()), "allowed");
    host.stop().await.unwrap();
}

#[tokio::test]
async fn over_tls_only_gates_connect() {
    let dir = dir();
    let (ours, other) = (
        Authority::new("gates").unwrap(),
        Authority::new("others").unwrap(),
    );
    let host_identity = ours.server(Validity::Valid).unwrap();
    dir.file("host.pem", host_identity.certificate_pem.as_bytes());
    dir.file("key.pem", host_identity.key_pem.as_bytes());
    dir.file("ca.pem", ours.pem().as_bytes());
    let text = format!(
        "listen: ['127.0.0.1:0']\ngate: {{tls: {{certificate: host.pem, key: key.pem, client_ca: ca.pem}}}}\n{PARTS}"
    );
    let host = dir.try_start(&text).await.unwrap();
    let Address::Tcp(address) = &host.addresses()[0] else {
        panic!("TCP")
    };
    let url = format!("https://{address}/sign");
    let root = || reqwest::Certificate::from_pem(ours.pem().as_bytes()).unwrap();
    let send = async |client: Client| {
        let request = client.post(&url).header("content-type", "application/json");
        request.body(r#"{"payload_b64": "aGVsbG8="}"#).send().await
    };
    for (identity, expected) in [
        (Some(ours.client("gate", Validity::Valid).unwrap()), true),
        (Some(ours.client("gate", Validity::Expired).unwrap()), false),
        (Some(other.client("gate", Validity::Valid).unwrap()), false),
        (None, false),
    ] {
        let mut client = postern_testbed::http::builder().tls_certs_only([root()]);
        if let Some(identity) = identity {
            let pem = format!("{}{}", identity.key_pem, identity.certificate_pem);
            client = client.identity(reqwest::Identity::from_pem(pem.as_bytes()).unwrap());
        }
        let response = send(client.build().unwrap()).await;
        assert_eq!(response.is_ok_and(|response| response.status() == 200), expected);
    }
    host.stop().await.unwrap();
}

#[tokio::test]
async fn signatures_verify_and_are_recorded() {
    let dir = dir();
    let text = format!("listen: ['unix:host.sock']\nadmin: {{listen: 'unix:admin.sock'}}\n{PARTS}");
    let host = dir.try_start(&text).await.unwrap();
    let address = &host.addresses()[0];
    let (status, response) = post(address, "/sign", r#"{"payload_b64": "aGVsbG8="}"#, None).await;
    assert_eq!(status, 200, "{response}");
    let signers = get(&host, "/v1/signers").await.json();
    let key = |response: &Value, what: &str| {
        let mut all = signers.as_array().unwrap().iter();
        let signer = all.find(|signer| signer["id"] == response["signer_id"]).unwrap();
        assert_eq!(signer["uses"], json!([what]));
        postern_signers::parse_key(signer["public_key"].as_str().unwrap()).unwrap()
    };
    verify(&key(&response, "payload"), b"hello", &response);

    let manifest = json!({"manifest": {"b": [1, 2.0], "a": "\u{20ac}"}}).to_string();
    let (status, response) = post(address, "/sign/manifest", &manifest, None).await;
    assert_eq!(status, 200, "{response}");
    let hash = Sha256::digest("{\"a\":\"\u{20ac}\",\"b\":[1,2]}");
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(response["manifest_hash"], hex);
    verify(&key(&response, "manifest"), &hash, &response);

    for (kind, count) in [("signature", 1), ("manifest_signature", 1)] {
        assert!(counted(&host, kind, count).await, "{kind}");
    }
    host.stop().await.unwrap();
}

fn verify(key: &PublicKey, message: &[u8], response: &Value) {
    let signature = Base64::decode_to_vec(response["signature_b64"].as_str().unwrap(), None).unwrap();
    key.verify(message, &Signature::from_slice(&signature).unwrap())
        .unwrap();
}

async fn counted(host: &Host, kind: &str, count: u32) -> bool {
    let series = format!("postern_audit_events_total{{kind=\"{kind}\"}} {count}\n");
    get(host, "/metrics").await.body.contains(&series)
}

#[tokio::test]
async fn invalid_sign_requests_are_rejected() {
    let dir = dir();
    let host = dir
        .try_start(&format!("listen: ['unix:host.sock']\n{PARTS}"))
        .await
        .unwrap();
    let address = &host.addresses()[0];
    let large = format!(r#"{{"payload_b64": "{}"}}"#, "A".repeat(2 << 20));
    for (path, body, expected, code) in [
        ("/sign", "", 400, "bad_request"),
        ("/sign", "{}", 400, "bad_request"),
        ("/sign", r#"{"payload_b64": "!"}"#, 400, "bad_request"),
        ("/sign", r#"{"payload_b64": 7}"#, 400, "bad_request"),
        (
            "/sign",
            r#"{"payload_b64": "", "signer_id": "mine"}"#,
            400,
            "bad_request",
        ),
        ("/sign", r#"["aGVsbG8="]"#, 400, "bad_request"),
        (
            "/sign",
            r#"{"payload_b64": "YQ==", "payload_b64": "Yg=="}"#,
            400,
            "bad_request",
        ),
        (
            "/sign/manifest",
            r#"{"manifest": {"a": 1, "a": 2}}"#,
            400,
            "bad_request",
        ),
        ("/sign", large.as_str(), 413, "payload_too_large"),
        ("/sign/manifest", r#"{"manifest": []}"#, 400, "bad_request"),
        (
            "/sign/manifest",
            r#"{"manifest": {"n": 9007199254740993}}"#,
            400,
            "bad_request",
        ),
    ] {
        let (status, response) = post(address, path, body, None).await;
        assert_eq!(
            (status, &response["code"]),
            (expected, &json!(code)),
            "{path} {response}"
        );
    }
    let plain = builder(address)
        .build()
        .unwrap()
        .post(url(address, "/sign"))
        .header("content-type", "text/plain")
        .body("{}");
    assert_eq!(
        plain.send().await.unwrap().status(),
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    );
    host.stop().await.unwrap();
}

/// The contract requires a JSON body, but no content type.
#[tokio::test]
async fn a_request_needs_no_content_type() {
    let dir = dir();
    let text = format!("listen: ['unix:host.sock']\n{PARTS}");
    let host = dir.try_start(&text).await.unwrap();
    let address = &host.addresses()[0];
    let bare = async |path: &str, body: &'static str| {
        let client = builder(address).build().unwrap();
        let response = client.post(url(address, path)).body(body).send().await.unwrap();
        response.status()
    };
    assert_eq!(bare("/sign", r#"{"payload_b64": "aGVsbG8="}"#).await, 200);
    assert_eq!(bare("/sign/manifest", r#"{"manifest": {}}"#).await, 200);
    host.stop().await.unwrap();
}

#[tokio::test]
async fn events_of_gates_are_validated_and_stored_once() {
    let dir = dir();
    let text = format!("listen: ['unix:host.sock']\nadmin: {{listen: 'unix:admin.sock'}}\n{PARTS}");
    let host = dir.try_start(&text).await.unwrap();
    let address = &host.addresses()[0];
    let events = [
        event("request", ID),
        event("admission", "01890a5d-ac96-774b-bcce-b302099a8058"),
    ];
    for _ in 0..3 {
        // A gate that got no response sends the events again.
        let (status, response) = post(address, "/v1/audit", &batch(&events), None).await;
        assert_eq!((status, response), (200, json!({"durable": 2})));
    }
    assert!(counted(&host, "request", 1).await && counted(&host, "admission", 1).await);
    let mut odd = event("request", "01890a5d-ac96-774b-bcce-b302099a8060");
    odd["subject"] = json!("a\u{0}b");
    let (status, response) = post(address, "/v1/audit", &batch(&[odd]), None).await;
    assert_eq!((status, response), (200, json!({"durable": 1})));

    // An id identifies one event: another event with the same id is not acknowledged.
    let mut other = event("request", ID);
    other["subject"] = json!("mallory");
    let fresh = event("request", "01890a5d-ac96-774b-bcce-b302099a8061");
    let mut twice = fresh.clone();
    twice["status"] = json!(599);
    for events in [vec![other], vec![fresh, twice]] {
        let (status, response) = post(address, "/v1/audit", &batch(&events), None).await;
        assert_eq!(
            (status, &response["code"]),
            (409, &json!("audit_conflict")),
            "{response}"
        );
    }
    assert!(counted(&host, "request", 2).await);

    let with = |field: &str, value: Value| {
        let mut event = event("request", "01890a5d-ac96-774b-bcce-b302099a8059");
        event[field] = value;
        batch(&[event])
    };
    for (body, expected) in [
        ("{}".to_owned(), "missing field `events`"),
        (with("kind", json!("signature")), "only a host records"),
        (with("kind", json!("sign")), "unknown variant"),
        (with("authorization", json!("Bearer x")), "unknown field"),
        (with("subject", json!("x".repeat(257))), "subject"),
        (with("detail", json!({"x": "y".repeat(5000)})), "detail"),
        (with("id", json!("7")), "UUID"),
        (with("time", json!("yesterday")), "time"),
        (batch(&vec![event("request", ID); 4097]), "4096 at most"),
    ] {
        let (status, response) = post(address, "/v1/audit", &body, None).await;
        let detail = response["detail"].as_str().unwrap_or_default();
        assert!(
            status == 400 && detail.contains(expected),
            "{expected}: {status} {response}"
        );
    }
    assert!(counted(&host, "request", 2).await, "no rejected event is stored");
    host.stop().await.unwrap();
}

#[tokio::test]
async fn signing_and_audit_are_absent_without_their_settings() {
    let dir = dir();
    let host = dir
        .try_start("listen: ['unix:host.sock']\npolicies: {entries: {'yes': {file: yes.wasm}}}")
        .await
        .unwrap();
    for (path, code) in [("/sign", "signing_absent"), ("/v1/audit", "audit_absent")] {
        let (status, response) = post(&host.addresses()[0], path, "{}", None).await;
        assert_eq!((status, &response["code"]), (404, &json!(code)));
    }
    host.stop().await.unwrap();
}

#[tokio::test]
async fn decisions_and_loads_are_recorded() {
    let dir = dir();
    let text = format!("listen: ['unix:host.sock']\nadmin: {{listen: 'unix:admin.sock'}}\n{PARTS}");
    let host = dir.try_start(&text).await.unwrap();
    let mut client = crate::support::connect(&host.addresses()[0]).await;
    decide(&mut client, check("yes", "GET", "/a?secret=1")).await;
    decide(&mut client, check("no-such", "GET", "/")).await;
    let (status, _) = post(
        &host.addresses()[0],
        "/v1/audit",
        &batch(&[event("request", ID)]),
        None,
    )
    .await;
    // Earlier events are durable with it.
    assert_eq!(status, 200);
    for (kind, count) in [("policy", 2), ("policy_load", 1), ("host", 1)] {
        assert!(counted(&host, kind, count).await, "{kind}");
    }
    host.stop().await.unwrap();
}

/// A module that signs `times` payloads, and allows if the last signature has 64 bytes.
fn signing_module(times: u32) -> Vec<u8> {
    let import = r#"(import "postern:policy/signer@0.1.0" "sign" (func $sign (param i32 i32 i32)))"#;
    let (fields, deny) = postern_testbed::text_modules::denial("unsigned");
    let sign = "(call $sign (i32.const 2048) (i32.const 2) (i32.const 3072))".repeat(times as usize);
    // The result: whether it is an error at offset 0, the pointer to the signature at 4, its length at 8.
    let authorize = format!(
        "{sign} (if (result i32) (i32.and (i32.eqz (i32.load8_u (i32.const 3072)))
            (i32.eq (i32.load (i32.const 3080)) (i32.const 64)))
            (then (i32.const 0)) (else {deny}))"
    );
    postern_testbed::text_modules::authorizer(&format!("{import} {fields}"), &authorize).unwrap()
}

#[tokio::test]
async fn only_policies_with_the_grant_get_signatures() {
    let dir = WorkDir::new();
    dir.file("one.wasm", &signing_module(1));
    dir.file("five.wasm", &signing_module(5));
    let entries = "{one: {file: one.wasm, grants: [signer], deadline: 500ms}, \
                    five: {file: five.wasm, grants: [signer], deadline: 500ms}, \
                    never: {file: one.wasm}}";
    let listen = "listen: ['unix:host.sock']\nadmin: {listen: 'unix:admin.sock'}";
    let parts = "signing: {}\naudit: {store: 'sqlite:audit.db'}";
    let host = dir
        .try_start(&format!("{listen}\n{parts}\npolicies: {{entries: {entries}}}"))
        .await
        .unwrap();
    let mut client = crate::support::connect(&host.addresses()[0]).await;
    assert_eq!(decide(&mut client, check("one", "GET", "/")).await, "allowed");
    // At most four signatures for one request.
    assert_eq!(
        decide(&mut client, check("five", "GET", "/")).await,
        "denied 403 unsigned"
    );
    assert!(counted(&host, "signature", 5).await);
    let faults = get(&host, "/readyz").await.json()["faults"].clone();
    assert!(
        faults["never"].as_str().unwrap().contains("needs `signer`"),
        "{faults}"
    );
    host.stop().await.unwrap();

    let text = format!("{listen}\npolicies: {{entries: {{one: {{file: one.wasm, grants: [signer]}}}}}}");
    let host = dir.try_start(&text).await.unwrap();
    let faults = get(&host, "/readyz").await.json()["faults"].clone();
    assert!(
        faults["one"]
            .as_str()
            .unwrap()
            .contains("this host does not sign"),
        "{faults}"
    );
    host.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_write_ahead_log_makes_the_host_unready_and_stops_acknowledgements() {
    let dir = dir();
    let text = format!("listen: ['unix:host.sock']\nadmin: {{listen: 'unix:admin.sock'}}\n{PARTS}");
    let host = dir.try_start(&text).await.unwrap();
    let address = &host.addresses()[0];
    let (status, _) = post(address, "/v1/audit", &batch(&[event("request", ID)]), None).await;
    assert_eq!((status, get(&host, "/readyz").await.status), (200, 200));
    let wal = std::fs::OpenOptions::new()
        .write(true)
        .open(dir.path("audit.db-wal"))
        .unwrap();
    wal.set_len(wal.metadata().unwrap().len() / 2).unwrap();
    // No event arrives in the meantime.
    let mut ready = get(&host, "/readyz").await;
    for _ in 0..100 {
        if ready.status == 503 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        ready = get(&host, "/readyz").await;
    }
    assert!(
        ready.status == 503 && ready.body.contains("\"audit\""),
        "{ready:?}"
    );
    let late = event("request", "01890a5d-ac96-774b-bcce-b302099a8062");
    let (status, response) = post(address, "/v1/audit", &batch(&[late]), None).await;
    assert_eq!(status, 503, "{response}");
    host.stop().await.unwrap_err();
}
