//! Policies, asked of a server of ext_authz that knows nothing of Postern: what it is told, and what becomes of what
//! it answers.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "for tests: what does not work ends the test"
)]

use std::time::{Duration, Instant};

use postern_e2e::{Call, Fixture, Setup, Version, client, exchange};
use postern_testbed::idp::{Alg, IdentityProvider, Mode};
use postern_testbed::policy_peer::messages::{
    CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue, HeaderValueOption, HttpRequest,
    HttpResponse, HttpStatus, OkHttpResponse,
};
use postern_testbed::policy_peer::{Answer, PolicyPeer};
use postern_testbed::{sign, tokens};
use serde_json::{Value, json};

const LARGEST: usize = 64 * 1024;

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

fn start() -> (Fixture, PolicyPeer) {
    start_with(1, IdentityProvider::start().unwrap())
}

fn start_with(workers: u32, idp: IdentityProvider) -> (Fixture, PolicyPeer) {
    let peer = PolicyPeer::start().unwrap();
    let setup = Setup::new(gate()).workers(workers).env("HOOK", "the-secret");
    (setup.policy_host(peer.addr()).start_with(idp), peer)
}

fn the_one(peer: &PolicyPeer) -> CheckRequest {
    let mut asked = peer.take_asked();
    assert_eq!(asked.len(), 1, "{asked:?}");
    asked.remove(0)
}

fn set(key: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption::new(key, value, false)
}

fn add(key: &str, value: &str) -> HeaderValueOption {
    HeaderValueOption::new(key, value, true)
}

#[tokio::test]
async fn what_a_policy_is_told() {
    let (fixture, peer) = start();
    let client = client(Version::Http1);
    let request = Call::get("/keyed/%41?q=%2F&r")
        .header("x-request-id", "6e1ee0e4-0000-4000-8000-00000000abcd")
        .header("x-api-key", "key")
        .header("authorization", "Bearer hidden")
        .header("x-hub-signature-256", "sha256=hidden")
        .header("x-postern-subject", "root")
        .header("x-plain", "seen");
    request.send(&client, &fixture).await.expect(200, None, "plain");
    let asked = the_one(&peer);
    let http = asked.http();
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
    assert_eq!(http.headers.get("x-plain").map(String::as_str), Some("seen"));
    assert_eq!(http.headers.get(":method").map(String::as_str), Some("GET"));
    for hidden in [
        "x-api-key",
        "authorization",
        "x-hub-signature-256",
        "x-postern-subject",
    ] {
        assert!(!http.headers.contains_key(hidden), "{hidden}");
    }
    assert_eq!(http.header_map, None, "nothing is lost in the map");
    let attributes = asked.attributes.clone().unwrap();
    let source = attributes
        .source
        .unwrap()
        .address
        .unwrap()
        .socket_address
        .unwrap();
    assert_eq!(source.address, "127.0.0.1");
    assert_ne!(source.port_value, 0);
    let seconds = attributes.request.unwrap().time.unwrap().seconds;
    assert!((tokens::now() - seconds).abs() < 10, "{seconds}");
    assert_eq!(asked.extension("postern.module"), Some("sentinel"));
    assert_eq!(asked.extension("postern.rule"), Some("keyed"));
    let identity: Value = serde_json::from_str(asked.extension("postern.identity").unwrap()).unwrap();
    let wanted = json!({"subject": "ci", "issuer": "api_keys/agents", "method": "api_key", "roles": ["Operator"],
                        "tenant": "acme", "claims": {}});
    assert_eq!(identity, wanted);

    Call::get("/open")
        .send(&client, &fixture)
        .await
        .expect(200, None, "open");
    assert_eq!(the_one(&peer).extension("postern.identity"), None);
    Call::get("/free")
        .send(&client, &fixture)
        .await
        .expect(200, None, "free");
    assert_eq!(peer.take_asked(), []);
    Call::get("/keyed")
        .send(&client, &fixture)
        .await
        .expect(401, Some("credentials_missing"), "refused");
    assert_eq!(peer.take_asked(), [], "what the gate refuses is not asked");
    fixture.assert_sound("told");
}

#[tokio::test]
async fn repeated_and_strange_headers_arrive_one_by_one() {
    let (fixture, peer) = start();
    let request = b"GET /open HTTP/1.1\r\nhost: a.example\r\nx-a: 1\r\nx-b: \xff\xfe\r\nx-a: 2\r\nx-c: \xc3\xa9\r\nx-a: 1\r\nx-request-id: r\r\n\r\n";
    exchange(fixture.envoy.addr(), request)
        .await
        .expect(200, None, "strange");
    let http: HttpRequest = the_one(&peer).http();
    assert_eq!(http.headers.get("x-a").map(String::as_str), Some("1,2,1"));
    assert_eq!(http.headers.get("x-b").map(String::as_str), Some("!!"));
    let list: Vec<(String, Vec<u8>)> = http
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
    assert_eq!(list, sent);
    fixture.assert_sound("strange");
}

#[tokio::test]
async fn an_allowance_is_carried_out() {
    let (fixture, peer) = start();
    let client = client(Version::Http1);
    let mut raw = set("x-raw", "");
    raw.header = Some(HeaderValue {
        key: "x-raw".to_owned(),
        value: String::new(),
        raw_value: b"\xc3\xa9".to_vec(),
    });
    peer.answer(CheckResponse::allow_with(OkHttpResponse {
        headers: vec![set("X-Set", "policy"), set("x-new", "1"), add("x-new", "2"), raw],
        headers_to_remove: vec!["x-gone".to_owned(), "Host".to_owned(), ":path".to_owned()],
        response_headers_to_add: vec![
            add("set-cookie", "a=1"),
            add("set-cookie", "b=2"),
            set("x-back", "1"),
        ],
        ..OkHttpResponse::default()
    }));
    let request = Call::get("/keyed")
        .api_key("key")
        .header("x-set", "client")
        .header("x-set", "again")
        .header("x-gone", "1");
    let answer = request.send(&client, &fixture).await;
    answer.expect(200, None, "allowed");
    assert_eq!(answer.headers.get_all("set-cookie").iter().count(), 2);
    assert_eq!(answer.header("x-back"), Some("1"));
    let seen = fixture.api.requests().remove(0);
    assert_eq!(seen.header("x-set"), Some("policy"));
    assert_eq!(seen.header_values("x-new"), ["1", "2"]);
    assert_eq!(seen.header("x-raw"), Some("é"));
    assert_eq!(seen.header("x-gone"), None);
    assert!(seen.header("host").is_some());
    assert_eq!(seen.header("x-postern-subject"), Some("ci"));
    fixture.assert_sound("allowed");
}

fn denial(status: Option<i32>, headers: Vec<HeaderValueOption>, body: &str) -> DeniedHttpResponse {
    DeniedHttpResponse {
        status: status.map(|code| HttpStatus { code }),
        headers,
        body: body.to_owned(),
    }
}

#[tokio::test]
async fn a_denial_stands_as_it_is() {
    let (fixture, peer) = start();
    let client = client(Version::Http1);
    let before = fixture.decisions();
    let headers = vec![set("content-type", "application/vnd.own"), set("x-why", "quorum")];
    peer.answer(CheckResponse {
        http_response: Some(HttpResponse::Denied(denial(Some(451), headers, "not \"here\"\n"))),
        ..CheckResponse::status(7)
    });
    let answer = Call::get("/open").send(&client, &fixture).await;
    assert_eq!(
        (answer.status, answer.body.as_slice()),
        (451, &b"not \"here\"\n"[..])
    );
    assert_eq!(answer.header("content-type"), Some("application/vnd.own"));
    assert_eq!(answer.header("x-why"), Some("quorum"));
    fixture.expect_decision(&before, "open.policy_denied", "denied");

    peer.answer(CheckResponse {
        http_response: Some(HttpResponse::Denied(denial(None, Vec::new(), ""))),
        ..CheckResponse::status(7)
    });
    let answer = Call::get("/open").send(&client, &fixture).await;
    assert_eq!((answer.status, answer.body.len()), (403, 0));

    peer.answer(CheckResponse::status(16));
    let answer = Call::get("/open").send(&client, &fixture).await;
    answer.expect(403, Some("policy_denied"), "a status alone");
    assert_eq!(fixture.api.count(), 0);
    fixture.assert_sound("denied");
}

/// What is no sound answer: everything but that lets pass nothing and says so.
#[tokio::test]
async fn an_answer_that_makes_no_sense_refuses() {
    let (fixture, peer) = start();
    let client = client(Version::Http1);
    let setting = |name: &str, value: &str| -> Answer {
        CheckResponse::allow_with(OkHttpResponse {
            headers: vec![set(name, value)],
            ..OkHttpResponse::default()
        })
        .into()
    };
    let error = |code| -> Answer {
        CheckResponse {
            http_response: Some(HttpResponse::Error(denial(Some(500), Vec::new(), "stack trace"))),
            ..CheckResponse::status(code)
        }
        .into()
    };
    let query = CheckResponse::allow_with(OkHttpResponse {
        query_parameters_to_remove: vec!["a".to_owned()],
        ..OkHttpResponse::default()
    });
    let failed = "policy_failed";
    let cases = [
        ("an error", error(13), failed),
        ("an error: unavailable", error(14), "policy_unavailable"),
        ("an error: late", error(4), "policy_unavailable"),
        ("no message", Answer::Bytes(Vec::new()), failed),
        ("garbage", Answer::Bytes(vec![0xff; 64]), failed),
        ("an answer too large", Answer::Bytes(vec![0; 300 * 1024]), failed),
        ("UNIMPLEMENTED", Answer::Status(12), failed),
        ("INTERNAL", Answer::Status(13), failed),
        ("PERMISSION_DENIED", Answer::Status(7), failed),
        ("OK without a message", Answer::Status(0), failed),
        ("UNAVAILABLE", Answer::Status(14), "policy_unavailable"),
        ("DEADLINE_EXCEEDED", Answer::Status(4), "policy_unavailable"),
        ("no gRPC", Answer::Http(404), failed),
        ("the query changed", query.into(), failed),
        ("the path changed", setting(":path", "/admin"), failed),
        ("the host changed", setting("host", "b.example"), failed),
        (
            "the framing changed",
            setting("transfer-encoding", "chunked"),
            failed,
        ),
        ("the caller changed", setting("x-postern-subject", "root"), failed),
        (
            "the caller changed, other spelling",
            setting("X_Postern_Roles", "Admin"),
            failed,
        ),
        ("a claim's header changed", setting("x-tier", "gold"), failed),
        (
            "two lines in one",
            setting("x-a", "1\r\nx-postern-subject: root"),
            failed,
        ),
        ("no header's name", setting("x a", "1"), failed),
    ];
    for (case, answer, code) in cases {
        let before = fixture.decisions();
        peer.answer(answer);
        let answer = Call::get("/open").send(&client, &fixture).await;
        answer.expect(503, Some(code), case);
        assert!(!answer.text().contains("stack trace"), "{case}");
        assert_eq!(answer.header("retry-after"), Some("1"), "{case}");
        fixture.expect_decision(&before, &format!("open.{code}"), case);
    }
    assert_eq!(fixture.api.count(), 0);
    peer.answer(CheckResponse::status(0));
    Call::get("/open")
        .send(&client, &fixture)
        .await
        .expect(200, None, "afterwards");
    fixture.assert_sound("failures");
}

#[tokio::test]
async fn bodies_are_shown_exactly() {
    let (fixture, peer) = start();
    let bytes: Vec<u8> = (0..LARGEST).map(|n| (n % 251) as u8 ^ 0x80).collect();
    for version in [Version::Http1, Version::Http2] {
        let client = client(version);
        for length in [0, 1, 5_000, LARGEST] {
            fixture.api.reset();
            let body = &bytes[..length];
            let call = Call::post("/body", body);
            call.send(&client, &fixture)
                .await
                .expect(200, None, &format!("{version:?} {length}"));
            let http = the_one(&peer).http();
            assert_eq!(http.raw_body, body, "{version:?} {length}");
            assert_eq!(http.size, length as i64);
            assert_eq!(fixture.api.requests()[0].body.as_deref(), Some(body));
        }
        let call = Call::post("/body", vec![b'x'; LARGEST + 1]);
        call.send(&client, &fixture)
            .await
            .expect(413, Some("body_too_large"), "a byte too many");
        assert_eq!(peer.take_asked(), []);
        // A policy that is shown none says nothing of its size.
        let call = Call::post("/open", vec![b'x'; LARGEST + 1]);
        call.send(&client, &fixture).await.expect(200, None, "not shown");
        assert_eq!(the_one(&peer).http().raw_body, b"");
    }
    let signed = |body: &[u8]| {
        let mac = sign::hex(&sign::hmac_sha256(b"the-secret", body));
        Call::post("/hook", body).header("x-hub-signature-256", format!("sha256={mac}"))
    };
    let client = client(Version::Http1);
    fixture.api.reset();
    signed(&bytes)
        .send(&client, &fixture)
        .await
        .expect(200, None, "signed");
    assert_eq!(the_one(&peer).http().raw_body, bytes);
    assert_eq!(fixture.api.requests()[0].body.as_deref(), Some(&bytes[..]));
    let answer = signed(&[b'x'; LARGEST + 1]).send(&client, &fixture).await;
    answer.expect(413, Some("body_too_large"), "signed, a byte too many");
    fixture.assert_sound("bodies");
}

/// The longest way: a token whose keys are fetched first, while the body arrives, and then the policy.
#[tokio::test]
async fn a_request_that_waits_for_keys_is_put_to_its_policy() {
    for (case, body) in [("none", Vec::new()), ("some", b"\0body\xff".to_vec())] {
        let idp = IdentityProvider::start().unwrap();
        idp.set_mode(Mode::Slow(Duration::from_secs(2)));
        let (fixture, peer) = start_with(1, idp);
        let mut claims = tokens::claims("https://remote.example", "a", "alice", 3600);
        claims["groups"] = json!(["r1"]);
        claims["tier"] = json!("gold");
        let token = fixture.idp.keys().mint(Alg::Es256, &claims);
        let call = match body.as_slice() {
            [] => Call::get("/token"),
            body => Call::post("/token", body),
        };
        let began = Instant::now();
        call.bearer(&token)
            .send(&client(Version::Http1), &fixture)
            .await
            .expect(200, None, case);
        assert!(
            began.elapsed() > Duration::from_millis(300),
            "{case}: it did not wait for keys"
        );
        let asked = the_one(&peer);
        assert_eq!(asked.http().raw_body, body, "{case}");
        let identity: Value = serde_json::from_str(asked.extension("postern.identity").unwrap()).unwrap();
        assert_eq!(identity["subject"], "alice");
        assert_eq!(identity["issuer"], "issuers/remote");
        assert_eq!(identity["method"], "jwt");
        assert_eq!(identity["roles"], json!(["r1"]));
        assert_eq!(identity["claims"], claims);
        let seen = fixture.api.requests().remove(0);
        assert_eq!(seen.header("x-tier"), Some("gold"));
        assert_eq!(seen.body.as_deref(), Some(body.as_slice()), "{case}");
        fixture.assert_sound(case);
    }
}

/// Requests on connections of their own, which Envoy spreads over its workers.
async fn many(fixture: &Fixture, key: &str, count: usize) {
    let pending: Vec<_> = (0..count)
        .map(|_| {
            let (call, url) = (Call::get("/keyed").api_key(key), fixture.envoy.url(""));
            tokio::spawn(async move { call.send_to(&client(Version::Http1), &url).await })
        })
        .collect();
    for answer in pending {
        answer.await.unwrap().unwrap().expect(200, None, key);
    }
}

#[tokio::test]
async fn a_granted_answer_serves_all_workers_and_nobody_else() {
    let (fixture, peer) = start_with(2, IdentityProvider::start().unwrap());
    let named = OkHttpResponse {
        headers: vec![set("x-from", "policy")],
        response_headers_to_add: vec![set("x-back", "policy")],
        ..OkHttpResponse::default()
    };
    peer.answer(CheckResponse::allow_with(named).granting(30_000.0, &["identity", "path", "header:x-mode"]));
    many(&fixture, "key", 1).await;
    assert_eq!(peer.take_asked().len(), 1);
    peer.answer(CheckResponse::status(7));
    fixture.api.reset();
    many(&fixture, "key", 50).await;
    assert_eq!(peer.take_asked(), [], "both workers remember");
    for seen in fixture.api.requests() {
        assert_eq!(seen.header("x-from"), Some("policy"));
        assert_eq!(seen.header("x-postern-subject"), Some("ci"));
    }
    let client = client(Version::Http1);
    let answer = Call::get("/keyed").api_key("key").send(&client, &fixture).await;
    assert_eq!(answer.header("x-back"), Some("policy"));
    let others = [
        Call::get("/keyed").api_key("other"),
        Call::get("/keyed/x").api_key("key"),
        Call::get("/keyed").api_key("key").header("x-mode", ""),
    ];
    for other in others {
        let answer = other.send(&client, &fixture).await;
        answer.expect(403, Some("policy_denied"), &format!("{other:?}"));
    }
    Call::get("/keyed")
        .send(&client, &fixture)
        .await
        .expect(401, Some("credentials_missing"), "nobody");
    assert_eq!(peer.take_asked().len(), 3);
    let stat = |name: &str| {
        fixture
            .envoy
            .stat(&format!("wasmcustom.postern.policy.keyed.{name}"))
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((stat("asked"), stat("recalled")), (Some(4), Some(51)));
    fixture.assert_sound("granted");
}

#[tokio::test]
async fn an_answer_ends_with_its_time() {
    let (fixture, peer) = start();
    peer.answer(CheckResponse::allow().granting(300.0, &[]));
    many(&fixture, "key", 3).await;
    many(&fixture, "other", 1).await;
    let first = peer.take_asked().len();
    assert!(
        (1..=3).contains(&first),
        "asked {first} times; those at once may all be"
    );
    tokio::time::sleep(Duration::from_millis(400)).await;
    many(&fixture, "key", 1).await;
    assert_eq!(peer.take_asked().len(), 1);
    fixture.assert_sound("ended");
}
