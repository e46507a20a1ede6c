//! The filter as a client of an external authorization server that is independent of Postern: the requests it sends,
//! and what it does with the responses.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use postern_e2e::{Fixture, Request, Setup, Version, client, exchange};
use postern_testbed::ext_authz::{
    CheckBehaviour, CheckRequest, CheckResponse, Code, DeniedHttpResponse, ExtAuthzServer, HeaderValue,
    HeaderValueOption, HttpRequest, HttpResponse, HttpStatus, OkHttpResponse, allow, allow_with, cacheable,
    context_extension, header, http_request, source, with_status,
};
use postern_testbed::idp::{Alg, IdentityProvider, JwksBehaviour};
use postern_testbed::{sign, tokens};
use serde_json::{Value, json};

/// The `body` limit of the rules.
const MAX_BODY: usize = 64 * 1024;

fn gate() -> Value {
    json!({
        "host": {"cluster": "postern_host", "timeout": "5s"},
        "issuers": {"remote": {"issuer": "https://remote.example", "audiences": ["a"], "algorithms": ["ES256"],
                               "roles_claim": "groups", "headers": {"x-tier": "tier"},
                               "jwks": {"uri": "http://idp.example/.well-known/jwks.json", "cluster": "idp"}}},
        "api_keys": {"agents": {"keys": [
            {"id": "ci", "digest": sign::api_key_digest("key"), "roles": ["Operator"], "tenant": "acme"},
            {"id": "cd", "digest": sign::api_key_digest("other")},
        ]}},
        "signatures": {"hooks": {"scheme": "github", "secrets": [{"env": "HOOK"}], "max_body": "1MiB"}},
        "rules": [
            {"name": "open", "match": {"path": {"prefix": "/open"}}, "open": true, "policy": {"module": "any"}},
            {"name": "keyed", "match": {"path": {"prefix": "/keyed"}}, "authenticate": {"any": ["api_keys/agents"]},
             "policy": {"module": "sentinel"}},
            {"name": "token", "match": {"path": {"prefix": "/token"}}, "authenticate": {"any": ["issuers/remote"]},
             "policy": {"module": "sentinel", "body": "64KiB"}},
            {"name": "hook", "match": {"path": {"prefix": "/hook"}}, "authenticate": {"any": ["signatures/hooks"]},
             "policy": {"module": "sentinel", "body": "64KiB"}},
            {"name": "body", "match": {"path": {"prefix": "/body"}}, "open": true,
             "policy": {"module": "scanner", "body": "64KiB"}},
            {"name": "free", "open": true},
        ],
    })
}

fn start() -> (Fixture, ExtAuthzServer) {
    start_with(1, IdentityProvider::start().unwrap())
}

fn start_with(workers: u32, idp: IdentityProvider) -> (Fixture, ExtAuthzServer) {
    let server = ExtAuthzServer::start().unwrap();
    let setup = Setup::new(gate()).workers(workers).env("HOOK", "the-secret");
    (setup.policy_host(server.addr()).start_with(idp), server)
}

/// # Panics
/// Unless the server has received exactly one request.
fn take_request(server: &ExtAuthzServer) -> CheckRequest {
    let mut requests = server.take_requests();
    assert_eq!(requests.len(), 1, "{requests:?}");
    requests.remove(0)
}

fn set(key: &str, value: &str) -> HeaderValueOption {
    header(key, value, false)
}

fn append(key: &str, value: &str) -> HeaderValueOption {
    header(key, value, true)
}

#[tokio::test]
async fn the_request_describes_the_http_request_and_the_caller() {
    let (fixture, server) = start();
    let client = client(Version::Http1);
    let request = Request::get("/keyed/%41?q=%2F&r")
        .header("x-request-id", "6e1ee0e4-0000-4000-8000-00000000abcd")
        .header("x-api-key", "key")
        .header("authorization", "Bearer removed")
        .header("x-hub-signature-256", "sha256=removed")
        .header("x-postern-subject", "root")
        .header("x-plain", "kept");
    request.send(&client, &fixture).await.expect(200, None, "plain");
    let check = take_request(&server);
    let http = http_request(&check);
    assert_eq!(
        (
            http.method.as_str(),
            http.path.as_str(),
            http.scheme.as_str(),
            http.protocol.as_str()
        ),
        ("GET", "/keyed/%41?q=%2F&r", "http", "HTTP/1.1")
    );
    assert_eq!((http.query.as_str(), http.size), ("", 0));
    assert_eq!(http.host, fixture.envoy.addr().to_string());
    assert_eq!(http.headers.get("x-request-id"), Some(&http.id));
    assert_eq!(http.headers.get("x-plain").map(String::as_str), Some("kept"));
    assert_eq!(http.headers.get(":method").map(String::as_str), Some("GET"));
    for removed in [
        "x-api-key",
        "authorization",
        "x-hub-signature-256",
        "x-postern-subject",
    ] {
        assert!(!http.headers.contains_key(removed), "{removed}");
    }
    assert_eq!(http.header_map, None, "`headers` represents all of them");
    let source = source(&check).unwrap();
    assert!(
        source.ip() == Ipv4Addr::LOCALHOST && source.port() != 0,
        "{source}"
    );
    let attributes = check.attributes.clone().unwrap();
    let seconds = attributes.request.unwrap().time.unwrap().seconds;
    assert!((tokens::now() - seconds).abs() < 10, "{seconds}");
    assert_eq!(context_extension(&check, "postern.module"), Some("sentinel"));
    assert_eq!(context_extension(&check, "postern.rule"), Some("keyed"));
    let identity: Value =
        serde_json::from_str(context_extension(&check, "postern.identity").unwrap()).unwrap();
    let expected = json!({"subject": "ci", "issuer": "api_keys/agents", "method": "api_key", "roles": ["Operator"],
                        "tenant": "acme", "claims": {}});
    assert_eq!(identity, expected);

    Request::get("/open")
        .send(&client, &fixture)
        .await
        .expect(200, None, "open");
    assert_eq!(
        context_extension(&take_request(&server), "postern.identity"),
        None
    );
    Request::get("/free")
        .send(&client, &fixture)
        .await
        .expect(200, None, "free");
    assert_eq!(server.take_requests(), []);
    Request::get("/keyed")
        .send(&client, &fixture)
        .await
        .expect(401, Some("credentials_missing"), "refused");
    assert_eq!(server.take_requests(), [], "the gate refuses it without a policy");
    fixture.assert_healthy("requests");
}

#[tokio::test]
async fn repeated_and_binary_headers_keep_each_value() {
    let (fixture, server) = start();
    let request = b"GET /open HTTP/1.1\r\nhost: a.example\r\nx-a: 1\r\nx-b: \xff\xfe\r\nx-a: 2\r\nx-c: \xc3\xa9\r\nx-a: 1\r\nx-request-id: r\r\n\r\n";
    exchange(fixture.envoy.addr(), request)
        .await
        .expect(200, None, "binary headers");
    let http: HttpRequest = http_request(&take_request(&server));
    assert_eq!(http.headers.get("x-a").map(String::as_str), Some("1,2,1"));
    assert_eq!(http.headers.get("x-b").map(String::as_str), Some("!!"));
    let received: Vec<(String, Vec<u8>)> = http
        .header_map
        .unwrap()
        .headers
        .into_iter()
        .filter(|header| header.key.starts_with("x-") && header.key.len() == 3)
        .map(|header| (header.key, header.raw_value))
        .collect();
    let sent: [(&str, &[u8]); 5] = [
        ("x-a", b"1"),
        ("x-b", b"\xff\xfe"),
        ("x-a", b"2"),
        ("x-c", b"\xc3\xa9"),
        ("x-a", b"1"),
    ];
    let sent: Vec<_> = sent.iter().map(|(n, v)| ((*n).to_owned(), v.to_vec())).collect();
    assert_eq!(received, sent);
    fixture.assert_healthy("binary headers");
}

#[tokio::test]
async fn header_changes_of_an_allow_response_are_applied() {
    let (fixture, server) = start();
    let client = client(Version::Http1);
    let mut raw = set("x-raw", "");
    raw.header = Some(HeaderValue {
        key: "x-raw".to_owned(),
        value: String::new(),
        raw_value: b"\xc3\xa9".to_vec(),
    });
    server.set_behaviour(allow_with(OkHttpResponse {
        headers: vec![
            set("X-Set", "policy"),
            set("x-new", "1"),
            append("x-new", "2"),
            raw,
        ],
        headers_to_remove: vec!["x-removed".to_owned(), "Host".to_owned(), ":path".to_owned()],
        response_headers_to_add: vec![
            append("set-cookie", "a=1"),
            append("set-cookie", "b=2"),
            set("x-back", "1"),
        ],
        ..OkHttpResponse::default()
    }));
    let request = Request::get("/keyed")
        .api_key("key")
        .header("x-set", "client")
        .header("x-set", "again")
        .header("x-removed", "1");
    let response = request.send(&client, &fixture).await;
    response.expect(200, None, "allowed");
    assert_eq!(response.headers.get_all("set-cookie").iter().count(), 2);
    assert_eq!(response.header("x-back"), Some("1"));
    let received = fixture.api.requests().remove(0);
    assert_eq!(received.header("x-set"), Some("policy"));
    assert_eq!(received.header_values("x-new"), ["1", "2"]);
    assert_eq!(received.header("x-raw"), Some("é"));
    assert_eq!(received.header("x-removed"), None);
    assert!(received.header("host").is_some());
    assert_eq!(received.header("x-postern-subject"), Some("ci"));
    fixture.assert_healthy("allowed");
}

fn denial(status: Option<i32>, headers: Vec<HeaderValueOption>, body: &str) -> DeniedHttpResponse {
    DeniedHttpResponse {
        status: status.map(|code| HttpStatus { code }),
        headers,
        body: body.to_owned(),
    }
}

#[tokio::test]
async fn a_denied_response_is_returned_unchanged() {
    let (fixture, server) = start();
    let client = client(Version::Http1);
    let before = fixture.decision_counts();
    let headers = vec![
        set("content-type", "application/vnd.example"),
        set("x-why", "quorum"),
    ];
    server.set_behaviour(CheckResponse {
        http_response: Some(HttpResponse::DeniedResponse(denial(
            Some(451),
            headers,
            "not \"here\"\n",
        ))),
        ..with_status(Code::PermissionDenied)
    });
    let response = Request::get("/open").send(&client, &fixture).await;
    assert_eq!(
        (response.status, response.body.as_slice()),
        (451, &b"not \"here\"\n"[..])
    );
    assert_eq!(response.header("content-type"), Some("application/vnd.example"));
    assert_eq!(response.header("x-why"), Some("quorum"));
    fixture.expect_decision(&before, "open.policy_denied", "denied");

    server.set_behaviour(CheckResponse {
        http_response: Some(HttpResponse::DeniedResponse(denial(None, Vec::new(), ""))),
        ..with_status(Code::PermissionDenied)
    });
    let response = Request::get("/open").send(&client, &fixture).await;
    assert_eq!((response.status, response.body.len()), (403, 0));

    server.set_behaviour(with_status(Code::Unauthenticated));
    let response = Request::get("/open").send(&client, &fixture).await;
    response.expect(403, Some("policy_denied"), "a status alone");
    assert_eq!(fixture.api.count(), 0);
    fixture.assert_healthy("denied");
}

/// A malformed, failed or forbidden response admits no request, and is counted under its own reason.
#[tokio::test]
async fn an_invalid_response_refuses_the_request() {
    let (fixture, server) = start();
    let client = client(Version::Http1);
    let setting_header = |name: &str, value: &str| -> CheckBehaviour {
        allow_with(OkHttpResponse {
            headers: vec![set(name, value)],
            ..OkHttpResponse::default()
        })
        .into()
    };
    let error = |code: Code| -> CheckBehaviour {
        CheckResponse {
            http_response: Some(HttpResponse::ErrorResponse(denial(
                Some(500),
                Vec::new(),
                "stack trace",
            ))),
            ..with_status(code)
        }
        .into()
    };
    let query = allow_with(OkHttpResponse {
        query_parameters_to_remove: vec!["a".to_owned()],
        ..OkHttpResponse::default()
    });
    let failed = "policy_failed";
    let cases = [
        ("an error response", error(Code::Internal), failed),
        (
            "an error response: UNAVAILABLE",
            error(Code::Unavailable),
            "policy_unavailable",
        ),
        (
            "an error response: DEADLINE_EXCEEDED",
            error(Code::DeadlineExceeded),
            "policy_unavailable",
        ),
        ("an empty message", CheckBehaviour::Message(Vec::new()), failed),
        (
            "an undecodable message",
            CheckBehaviour::Message(vec![0xff; 64]),
            failed,
        ),
        (
            "a message of 300 KiB",
            CheckBehaviour::Message(vec![0; 300 * 1024]),
            failed,
        ),
        (
            "UNIMPLEMENTED",
            CheckBehaviour::Status(Code::Unimplemented),
            failed,
        ),
        ("INTERNAL", CheckBehaviour::Status(Code::Internal), failed),
        (
            "PERMISSION_DENIED",
            CheckBehaviour::Status(Code::PermissionDenied),
            failed,
        ),
        ("OK without a message", CheckBehaviour::Status(Code::Ok), failed),
        (
            "UNAVAILABLE",
            CheckBehaviour::Status(Code::Unavailable),
            "policy_unavailable",
        ),
        (
            "DEADLINE_EXCEEDED",
            CheckBehaviour::Status(Code::DeadlineExceeded),
            "policy_unavailable",
        ),
        ("HTTP without gRPC", CheckBehaviour::HttpStatus(404), failed),
        ("query parameters removed", query.into(), failed),
        ("the path set", setting_header(":path", "/admin"), failed),
        ("the host set", setting_header("host", "b.example"), failed),
        (
            "transfer-encoding set",
            setting_header("transfer-encoding", "chunked"),
            failed,
        ),
        (
            "the subject set",
            setting_header("x-postern-subject", "root"),
            failed,
        ),
        (
            "the roles set, with underscores",
            setting_header("X_Postern_Roles", "Admin"),
            failed,
        ),
        ("a claim header set", setting_header("x-tier", "gold"), failed),
        (
            "CRLF in a value",
            setting_header("x-a", "1\r\nx-postern-subject: root"),
            failed,
        ),
        ("an invalid header name", setting_header("x a", "1"), failed),
    ];
    for (case, behaviour, code) in cases {
        let before = fixture.decision_counts();
        server.set_behaviour(behaviour);
        let response = Request::get("/open").send(&client, &fixture).await;
        response.expect(503, Some(code), case);
        assert!(!response.text().contains("stack trace"), "{case}");
        assert_eq!(response.header("retry-after"), Some("1"), "{case}");
        fixture.expect_decision(&before, &format!("open.{code}"), case);
    }
    assert_eq!(fixture.api.count(), 0);
    server.set_behaviour(with_status(Code::Ok));
    Request::get("/open")
        .send(&client, &fixture)
        .await
        .expect(200, None, "afterwards");
    fixture.assert_healthy("failures");
}

#[tokio::test]
async fn the_body_is_sent_exactly() {
    let (fixture, server) = start();
    let bytes: Vec<u8> = (0..MAX_BODY).map(|n| (n % 251) as u8 ^ 0x80).collect();
    for version in [Version::Http1, Version::Http2] {
        let client = client(version);
        for length in [0, 1, 5_000, MAX_BODY] {
            fixture.api.reset();
            let body = &bytes[..length];
            let request = Request::post("/body", body);
            request
                .send(&client, &fixture)
                .await
                .expect(200, None, &format!("{version:?} {length}"));
            let http = http_request(&take_request(&server));
            assert_eq!(http.raw_body, body, "{version:?} {length}");
            assert_eq!(http.size, length as i64);
            assert_eq!(fixture.api.requests()[0].body.as_deref(), Some(body));
        }
        let request = Request::post("/body", vec![b'x'; MAX_BODY + 1]);
        request
            .send(&client, &fixture)
            .await
            .expect(413, Some("body_too_large"), "a byte over the limit");
        assert_eq!(server.take_requests(), []);
        // A rule whose policy gets no body does not limit its size.
        let request = Request::post("/open", vec![b'x'; MAX_BODY + 1]);
        request
            .send(&client, &fixture)
            .await
            .expect(200, None, "no body sent");
        assert_eq!(http_request(&take_request(&server)).raw_body, b"");
    }
    let signed = |body: &[u8]| {
        let mac = sign::hex(&sign::hmac_sha256(b"the-secret", body));
        Request::post("/hook", body).header("x-hub-signature-256", format!("sha256={mac}"))
    };
    let client = client(Version::Http1);
    fixture.api.reset();
    signed(&bytes)
        .send(&client, &fixture)
        .await
        .expect(200, None, "signed");
    assert_eq!(http_request(&take_request(&server)).raw_body, bytes);
    assert_eq!(fixture.api.requests()[0].body.as_deref(), Some(&bytes[..]));
    let response = signed(&[b'x'; MAX_BODY + 1]).send(&client, &fixture).await;
    response.expect(413, Some("body_too_large"), "signed, a byte over the limit");
    fixture.assert_healthy("bodies");
}

/// The longest path: the keys of the token are fetched while the body arrives, and then the policy is consulted.
#[tokio::test]
async fn a_request_that_waits_for_keys_reaches_its_policy() {
    for (case, body) in [("no body", Vec::new()), ("a body", b"\0body\xff".to_vec())] {
        let idp = IdentityProvider::start().unwrap();
        idp.set_behaviour(JwksBehaviour::Slow(Duration::from_secs(2)));
        let (fixture, server) = start_with(1, idp);
        let mut claims = tokens::claims("https://remote.example", "a", "alice", 3600);
        claims["groups"] = json!(["r1"]);
        claims["tier"] = json!("gold");
        let token = fixture.idp.keys().mint(Alg::Es256, &claims);
        let request = match body.as_slice() {
            [] => Request::get("/token"),
            body => Request::post("/token", body),
        };
        let started = Instant::now();
        request
            .bearer(&token)
            .send(&client(Version::Http1), &fixture)
            .await
            .expect(200, None, case);
        assert!(
            started.elapsed() > Duration::from_millis(300),
            "{case}: it did not wait for keys"
        );
        let check = take_request(&server);
        assert_eq!(http_request(&check).raw_body, body, "{case}");
        let identity: Value =
            serde_json::from_str(context_extension(&check, "postern.identity").unwrap()).unwrap();
        assert_eq!(identity["subject"], "alice");
        assert_eq!(identity["issuer"], "issuers/remote");
        assert_eq!(identity["method"], "jwt");
        assert_eq!(identity["roles"], json!(["r1"]));
        assert_eq!(identity["claims"], claims);
        let received = fixture.api.requests().remove(0);
        assert_eq!(received.header("x-tier"), Some("gold"));
        assert_eq!(received.body.as_deref(), Some(body.as_slice()), "{case}");
        fixture.assert_healthy(case);
    }
}

/// Sends concurrent requests on separate connections, which Envoy distributes over its workers.
async fn send_many(fixture: &Fixture, key: &str, count: usize) {
    let pending: Vec<_> = (0..count)
        .map(|_| {
            let (request, url) = (Request::get("/keyed").api_key(key), fixture.envoy.url(""));
            tokio::spawn(async move { request.send_to(&client(Version::Http1), &url).await })
        })
        .collect();
    for response in pending {
        response.await.unwrap().unwrap().expect(200, None, key);
    }
}

#[tokio::test]
async fn a_cached_decision_applies_on_all_workers_and_only_to_equal_requests() {
    let (fixture, server) = start_with(2, IdentityProvider::start().unwrap());
    let ok = OkHttpResponse {
        headers: vec![set("x-from", "policy")],
        response_headers_to_add: vec![set("x-back", "policy")],
        ..OkHttpResponse::default()
    };
    server.set_behaviour(cacheable(
        allow_with(ok),
        30_000.0,
        &["identity", "path", "header:x-mode"],
    ));
    send_many(&fixture, "key", 1).await;
    assert_eq!(server.take_requests().len(), 1);
    server.set_behaviour(with_status(Code::PermissionDenied));
    fixture.api.reset();
    send_many(&fixture, "key", 50).await;
    assert_eq!(server.take_requests(), [], "both workers use the cached decision");
    for received in fixture.api.requests() {
        assert_eq!(received.header("x-from"), Some("policy"));
        assert_eq!(received.header("x-postern-subject"), Some("ci"));
    }
    let client = client(Version::Http1);
    let response = Request::get("/keyed")
        .api_key("key")
        .send(&client, &fixture)
        .await;
    assert_eq!(response.header("x-back"), Some("policy"));
    let others = [
        Request::get("/keyed").api_key("other"),
        Request::get("/keyed/x").api_key("key"),
        Request::get("/keyed").api_key("key").header("x-mode", ""),
    ];
    for other in others {
        let response = other.send(&client, &fixture).await;
        response.expect(403, Some("policy_denied"), &format!("{other:?}"));
    }
    Request::get("/keyed").send(&client, &fixture).await.expect(
        401,
        Some("credentials_missing"),
        "no credentials",
    );
    assert_eq!(server.take_requests().len(), 3);
    let stat = |name: &str| {
        fixture
            .envoy
            .stat(&format!("wasmcustom.postern.policy.keyed.{name}"))
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((stat("asked"), stat("recalled")), (Some(4), Some(51)));
    fixture.assert_healthy("cached");
}

#[tokio::test]
async fn a_cached_decision_expires() {
    let (fixture, server) = start();
    server.set_behaviour(cacheable(allow(), 300.0, &[]));
    send_many(&fixture, "key", 3).await;
    send_many(&fixture, "other", 1).await;
    let calls = server.take_requests().len();
    assert!(
        (1..=3).contains(&calls),
        "{calls} calls; concurrent requests may each cause one"
    );
    tokio::time::sleep(Duration::from_millis(400)).await;
    send_many(&fixture, "key", 1).await;
    assert_eq!(server.take_requests().len(), 1);
    fixture.assert_healthy("expired");
}
