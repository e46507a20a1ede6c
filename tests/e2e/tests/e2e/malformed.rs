//! Malformed and unusual requests to one Envoy: each gets the right response, and none affects the next.

use std::time::Duration;

use postern_e2e::{Fixture, Http1Connection, Http2Stream, Request, Setup, Version, client, exchange};
use postern_testbed::idp::Alg;
use postern_testbed::keys::KeySet;
use postern_testbed::{sign, tokens};
use serde_json::{Value, json};
use tokio::time::sleep;

const SECRET: &str = "a-webhook-secret";
const MAX_BODY: usize = 64 * 1024;

fn start(keys: &KeySet) -> Fixture {
    let jwks: Value = serde_json::from_str(&keys.jwks_json_of(&[Alg::EdDsa])).unwrap();
    let by_key = json!({"any": ["api_keys/agents"]});
    let gate = json!({
        "issuers": {"main": {
            "issuer": "i", "audiences": ["a"], "algorithms": ["EdDSA"], "jwks": {"inline": jwks},
            "headers": {"X-User-Email": "email"},
        }},
        "api_keys": {"agents": {"keys": [{"id": "ci", "digest": sign::api_key_digest("key")}]}},
        "signatures": {"github": {
            "scheme": "github", "secrets": [{"env": "GITHUB_WEBHOOK_SECRET"}], "max_body": "64KiB",
        }},
        "rules": [
            {"name": "open", "match": {"path": {"prefix": "/open"}}, "open": true},
            {"name": "gated", "match": {"path": {"prefix": "/gated"}}, "authenticate": by_key},
            {"name": "direct", "match": {"path": {"prefix": "/direct"}}, "authenticate": by_key},
            {"name": "token", "match": {"path": {"prefix": "/token"}}, "authenticate": {"any": ["issuers/main"]}},
            {"name": "signed", "match": {"path": {"prefix": "/signed"}}, "authenticate": {"any": ["signatures/github"]}},
        ],
    });
    Setup::new(gate)
        .workers(2)
        .env("GITHUB_WEBHOOK_SECRET", SECRET)
        .connection_manager("max_request_headers_kb: 96")
        .connection_manager("common_http_protocol_options: {max_headers_count: 300}")
        .connection_manager("http_protocol_options: {enable_trailers: true}")
        .start()
}

/// A request head with a `host`; header lines end in CRLF.
fn head(line: impl AsRef<[u8]>, headers: impl AsRef<[u8]>) -> Vec<u8> {
    [
        line.as_ref(),
        b" HTTP/1.1\r\nhost: api.example\r\n",
        headers.as_ref(),
        b"\r\n",
    ]
    .concat()
}

/// # Panics
/// Unless the gate decides as before on both workers, and no VM has failed.
async fn assert_unaffected(fixture: &Fixture, case: &str) {
    for _ in 0..4 {
        let client = client(Version::Http1);
        let good = Request::get("/gated/x")
            .api_key("key")
            .send(&client, fixture)
            .await;
        good.expect(200, None, &format!("after {case}"));
        let bad = Request::get("/gated/x").send(&client, fixture).await;
        bad.expect(401, Some("credentials_missing"), &format!("after {case}"));
    }
    fixture.assert_healthy(case);
}

async fn check_headers(fixture: &Fixture) {
    let addr = fixture.envoy.addr();
    let many: String = (0..200).map(|n| format!("x-header-{n}: {n}\r\n")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(60 * 1024));
    let key = "x-api-key: key\r\n";
    let cases: Vec<(&str, Vec<u8>, u16, Option<&str>)> = vec![
        (
            "a value that is not UTF-8",
            head("GET /gated/x", b"x-api-key: key\r\nx-odd: \xff\xfe\r\n"),
            200,
            None,
        ),
        (
            "an API key that is not UTF-8",
            head("GET /gated/x", b"x-api-key: \xff\xfe\r\n"),
            401,
            Some("key_invalid"),
        ),
        (
            "a token that is not UTF-8",
            head("GET /token", b"authorization: Bearer \xff\xfe\r\n"),
            401,
            Some("token_invalid"),
        ),
        (
            "a scheme that is not UTF-8",
            head(
                "GET /token",
                b"authorization: \xff\xfe\xff\xfe\xff\xfe\xff\xfe\r\n",
            ),
            401,
            Some("credentials_missing"),
        ),
        (
            "a signature that is not UTF-8",
            head(
                "POST /signed",
                b"x-hub-signature-256: \xff\r\ncontent-length: 0\r\n",
            ),
            401,
            Some("signature_invalid"),
        ),
        (
            "a request id that is not UTF-8",
            head("GET /gated/x", b"x-request-id: \xff\xfe\r\n"),
            401,
            Some("credentials_missing"),
        ),
        (
            "200 headers",
            head("GET /direct", format!("{many}{key}")),
            200,
            None,
        ),
        (
            "200 headers, no key",
            head("GET /direct", &many),
            401,
            Some("credentials_missing"),
        ),
        (
            "a header of 60 KB",
            head("GET /direct", format!("{long}{key}")),
            200,
            None,
        ),
        (
            "a header of 60 KB, no key",
            head("GET /direct", &long),
            401,
            Some("credentials_missing"),
        ),
        (
            "an API key of 60 KB",
            head("GET /direct", format!("x-api-key: {}\r\n", "y".repeat(60 * 1024))),
            401,
            Some("key_invalid"),
        ),
        (
            "a token of 60 KB",
            head(
                "GET /token",
                format!("authorization: Bearer {}\r\n", "y".repeat(60 * 1024)),
            ),
            401,
            Some("token_invalid"),
        ),
        (
            "an empty API key",
            head("GET /gated/x", "x-api-key:\r\n"),
            401,
            Some("credentials_missing"),
        ),
        (
            "two Authorization headers",
            head(
                "GET /token",
                "authorization: Bearer a\r\nauthorization: Bearer b\r\n",
            ),
            401,
            Some("credentials_ambiguous"),
        ),
        (
            "two signatures",
            head(
                "POST /signed",
                "x-hub-signature-256: sha256=a\r\nx-hub-signature-256: sha256=b\r\ncontent-length: 0\r\n",
            ),
            401,
            Some("credentials_ambiguous"),
        ),
        (
            "absolute form",
            head("GET http://other.example/gated/x", ""),
            401,
            Some("credentials_missing"),
        ),
        (
            "absolute form to another rule",
            head("GET http://other.example/open/../gated", ""),
            400,
            Some("path_ambiguous"),
        ),
        // Envoy itself responds to a path without a leading slash.
        ("asterisk form", head("OPTIONS *", ""), 404, None),
        (
            "a percent-encoded query that is not UTF-8",
            head("GET /gated/x?%ff", key),
            200,
            None,
        ),
    ];
    for (name, request, status, code) in cases {
        exchange(addr, request).await.expect(status, code, name);
        assert_unaffected(fixture, name).await;
    }
    // Envoy may refuse these itself, also with 400.
    for (name, request) in [
        ("a path that is not UTF-8", head(b"GET /gated/\xff\xfe", key)),
        ("a query that is not UTF-8", head(b"GET /gated/x?\xff\xfe", key)),
        ("a fragment", head("GET /gated/x#/open", "")),
    ] {
        let count = fixture.api.count();
        assert_eq!(exchange(addr, request).await.status, 400, "{name}");
        assert_eq!(fixture.api.count(), count, "{name}: it reached the API");
        assert_unaffected(fixture, name).await;
    }
}

async fn check_paths(fixture: &Fixture) {
    for path in [
        "/open/../gated",
        "/open/./x",
        "//open",
        "/open//x",
        "/open/%2e%2e/gated",
        "/open/.%2E/gated",
        "/open%2fx",
        "/open%2Fx",
        "/open%5cx",
        "/open\\..\\gated",
        "/open/%00",
        "/open/..;/gated",
        "/open/..;x=1/gated",
        "/..",
        "/open/%zz",
        "/open/%",
    ] {
        let count = fixture.api.count();
        let response = exchange(
            fixture.envoy.addr(),
            head(format!("GET {path}"), "x-api-key: key\r\n"),
        )
        .await;
        response.expect(400, Some("path_ambiguous"), path);
        assert_eq!(fixture.api.count(), count, "{path} reached the API");
    }
    assert_unaffected(fixture, "ambiguous paths").await;
    // An escaped letter is unambiguous, and the API receives the path unchanged.
    fixture.api.reset();
    let response = exchange(fixture.envoy.addr(), head("GET /%6fpen/%7Ex?/../%2f", "")).await;
    response.expect(200, None, "an escaped letter");
    assert_eq!(fixture.api.requests()[0].path, "/%6fpen/%7Ex?/../%2f");
}

async fn check_bodies(fixture: &Fixture) {
    let addr = fixture.envoy.addr();
    let body = "The quick brown fox jumps over the lazy dog. ".repeat(50);
    let tampered = body.replacen('T', "t", 1);
    let signature = sign::github(SECRET, &body);
    let signed = format!("x-hub-signature-256: {signature}\r\n");
    let chunks = |body: &str| {
        let parts = body.as_bytes().chunks(700);
        let mut text: Vec<u8> = parts
            .flat_map(|part| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat())
            .collect();
        text.extend(b"0\r\n");
        text
    };
    let chunked = |headers: &str, body: &str, trailers: &str| {
        let headers = format!("{headers}transfer-encoding: chunked\r\n");
        [
            head("POST /signed", headers),
            chunks(body),
            trailers.as_bytes().to_vec(),
            b"\r\n".to_vec(),
        ]
        .concat()
    };
    let sized = |headers: &str, body: &str| {
        let headers = format!("{headers}content-length: {}\r\n", body.len());
        [head("POST /signed", headers), body.as_bytes().to_vec()].concat()
    };
    let empty = format!("x-hub-signature-256: {}\r\n", sign::github(SECRET, ""));
    let full = "z".repeat(MAX_BODY);
    let full_signed = format!("x-hub-signature-256: {}\r\n", sign::github(SECRET, &full));
    let over = "z".repeat(MAX_BODY + 1);
    let over_signed = format!("x-hub-signature-256: {}\r\n", sign::github(SECRET, &over));
    let invalid = Some("signature_invalid");
    let too_large = Some("body_too_large");
    let cases = [
        ("an empty body", sized(&empty, ""), 200, None, ""),
        ("an empty chunked body", chunked(&empty, "", ""), 200, None, ""),
        (
            "an empty body, wrong signature",
            sized(&signed, ""),
            401,
            invalid,
            "",
        ),
        ("chunked", chunked(&signed, &body, ""), 200, None, body.as_str()),
        (
            "chunked, with trailers",
            chunked(&signed, &body, "x-sum: 1\r\n"),
            200,
            None,
            body.as_str(),
        ),
        (
            "chunked, tampered",
            chunked(&signed, &tampered, ""),
            401,
            invalid,
            "",
        ),
        (
            "chunked, with trailers, tampered",
            chunked(&signed, &tampered, "x-sum: 1\r\n"),
            401,
            invalid,
            "",
        ),
        (
            "the largest body",
            sized(&full_signed, &full),
            200,
            None,
            full.as_str(),
        ),
        (
            "the largest body, chunked",
            chunked(&full_signed, &full, ""),
            200,
            None,
            full.as_str(),
        ),
        (
            "a byte over the limit",
            sized(&over_signed, &over),
            413,
            too_large,
            "",
        ),
        (
            "a byte over the limit, chunked",
            chunked(&over_signed, &over, ""),
            413,
            too_large,
            "",
        ),
    ];
    for (name, request, status, code, expected) in cases {
        fixture.api.reset();
        exchange(addr, request).await.expect(status, code, name);
        let received = fixture.api.requests();
        assert_eq!(received.len(), usize::from(status == 200), "{name}");
        if let Some(received) = received.first() {
            assert_eq!(received.body.as_deref(), Some(expected.as_bytes()), "{name}");
        }
        assert_unaffected(fixture, name).await;
    }
    check_http2_bodies(fixture, &body, &signature).await;
    check_slow_bodies(fixture, &body, &signed).await;
}

/// A response body of the API, as the number of body bytes that it received, or the code of a denial.
fn bytes_or_code(body: &[u8]) -> Result<u64, String> {
    let body: Value = serde_json::from_slice(body).unwrap();
    body["body_bytes"]
        .as_u64()
        .ok_or_else(|| body["code"].as_str().unwrap().to_owned())
}

async fn check_http2_bodies(fixture: &Fixture, body: &str, signature: &str) {
    let large = "z".repeat(MAX_BODY + 1);
    let tampered = body.replacen('T', "t", 1);
    let length = body.len() as u64;
    let cases: [(&str, &str, bool, Result<u64, &str>); 5] = [
        ("in frames", body, false, Ok(length)),
        ("in frames, with trailers", body, true, Ok(length)),
        ("in frames, tampered", &tampered, false, Err("signature_invalid")),
        (
            "in frames, with trailers, tampered",
            &tampered,
            true,
            Err("signature_invalid"),
        ),
        ("in frames, over the limit", &large, false, Err("body_too_large")),
    ];
    for (name, body, trailers, expected) in cases {
        let fields = [("x-hub-signature-256", signature)];
        let mut http2 = Http2Stream::post(fixture.envoy.addr(), "/signed", &fields).await;
        // The initial window has 65,535 bytes (RFC 9113, section 6.9.2), and updates are not awaited: the last byte of the
        // body over the limit is sent after Envoy has read the first ones.
        for part in body.as_bytes().chunks(8 * 1024) {
            http2.data(part, false).await;
            sleep(Duration::from_millis(10)).await;
        }
        if trailers {
            http2.trailers(&[("x-sum", "1")]).await;
        } else {
            http2.data(b"", true).await;
        }
        let result = bytes_or_code(&http2.body().await);
        assert_eq!(result, expected.map_err(str::to_owned), "{name}");
        assert_unaffected(fixture, name).await;
    }
}

async fn check_slow_bodies(fixture: &Fixture, body: &str, signed: &str) {
    let addr = fixture.envoy.addr();
    let head = |more: &str| {
        let headers = format!("{signed}content-length: {}\r\n{more}", body.len());
        head("POST /signed", headers)
    };
    // The API must not receive the head before the body is verified.
    fixture.api.reset();
    let mut slow = Http1Connection::open(addr).await;
    slow.write(&head("")).await;
    slow.write(&body.as_bytes()[..100]).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(fixture.api.count(), 0, "forwarded before the body was verified");
    slow.write(&body.as_bytes()[100..]).await;
    slow.read_response()
        .await
        .unwrap()
        .expect(200, None, "a slow body");

    let mut expecting = Http1Connection::open(addr).await;
    expecting.write(&head("expect: 100-continue\r\n")).await;
    assert_eq!(expecting.read_response().await.unwrap().status, 100);
    expecting.write(body.as_bytes()).await;
    expecting
        .read_response()
        .await
        .unwrap()
        .expect(200, None, "after 100 (Continue)");
    // The connection remains usable.
    expecting.write(&head("")).await;
    expecting.write(&body.replace('q', "Q").into_bytes()).await;
    let response = expecting.read_response().await.unwrap();
    response.expect(401, Some("signature_invalid"), "the second on a connection");

    // Clients that disconnect within the body.
    for _ in 0..20 {
        let mut client = Http1Connection::open(addr).await;
        client.write(&head("")).await;
        client.write(&body.as_bytes()[..500]).await;
    }
    assert_unaffected(fixture, "disconnected clients").await;
}

async fn check_identity_headers(fixture: &Fixture, keys: &KeySet) {
    let forged = "\
        x-postern-subject: root\r\nX-Postern-Roles: Admin\r\nX_Postern_Roles: Admin\r\nx-postern_tenant: acme\r\n\
        X-POSTERN-ANYTHING: 1\r\nx_postern-method: jwt\r\nX-User-Email: root@example.com\r\n\
        x_user_email: root@example.com\r\nx-user_email: root@example.com\r\nx-postern-subject: again\r\n";
    let kept = "x-poster: 1\r\nx-user-emails: 2\r\nx_custom_header: 3\r\nuser-email: 4\r\nx-posterns: 5\r\n";
    let mut claims = tokens::claims("i", "a", "alice", 3600);
    claims["email"] = json!("alice@example.com");
    let with_email = format!("authorization: Bearer {}\r\n", keys.mint(Alg::EdDsa, &claims));
    let plain = keys.mint(Alg::EdDsa, &tokens::claims("i", "a", "alice", 3600));
    let plain = format!("authorization: Bearer {plain}\r\n");
    let agent = [("x-postern-method", "api-key"), ("x-postern-subject", "ci")];
    let person = [("x-postern-method", "jwt"), ("x-postern-subject", "alice")];
    let email = ("x-user-email", "alice@example.com");
    let key = "x-api-key: key\r\n".to_owned();
    let hop = format!("{key}connection: x-postern-subject, x-postern-method\r\n");
    for (name, path, credential, expected) in [
        ("open", "/open", String::new(), vec![]),
        ("open, with a key", "/open", key.clone(), vec![]),
        ("gated", "/gated", key, agent.to_vec()),
        ("identity as hop-by-hop", "/gated", hop, agent.to_vec()),
        ("a token without the claim", "/token", plain, person.to_vec()),
        (
            "a token with the claim",
            "/token",
            with_email,
            [person.as_slice(), &[email]].concat(),
        ),
    ] {
        fixture.api.reset();
        let request = head(format!("GET {path}"), format!("{credential}{forged}{kept}"));
        exchange(fixture.envoy.addr(), request)
            .await
            .expect(200, None, name);
        let received = fixture.api.requests();
        let identity = |header: &str| {
            let header = header.replace('_', "-");
            header.starts_with("x-postern-") || header == "x-user-email"
        };
        let mut found: Vec<_> = received[0]
            .headers
            .iter()
            .filter(|(header, _)| identity(header))
            .map(|(header, value)| (header.as_str(), value.as_str()))
            .collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{name}");
        for (header, value) in [
            ("x-poster", "1"),
            ("x-user-emails", "2"),
            ("x_custom_header", "3"),
            ("user-email", "4"),
            ("x-posterns", "5"),
        ] {
            assert_eq!(received[0].header(header), Some(value), "{name}: {header}");
        }
        assert_unaffected(fixture, name).await;
    }
}

#[tokio::test]
async fn malformed_requests_are_handled_and_affect_no_others() {
    let keys = KeySet::generate().unwrap();
    let fixture = start(&keys);
    check_headers(&fixture).await;
    check_paths(&fixture).await;
    check_bodies(&fixture).await;
    check_identity_headers(&fixture, &keys).await;
    assert_unaffected(&fixture, "all").await;
}

/// RFC 9112, section 3.2, requires a 400 for more than one Host. Envoy joins them with a comma into one `:authority`,
/// which gate and API could read as different hosts.
#[tokio::test]
async fn two_hosts_are_refused() {
    let keys = KeySet::generate().unwrap();
    let fixture = start(&keys);
    let hosts = "host: other.example\r\nx-api-key: key\r\n";
    let response = exchange(fixture.envoy.addr(), head("GET /gated/x", hosts)).await;
    let received = fixture
        .api
        .requests()
        .pop()
        .and_then(|request| request.header("host").map(str::to_owned));
    assert_eq!(received, None, "it reached the API as this host");
    response.expect(400, Some("host_ambiguous"), "two hosts");
}
