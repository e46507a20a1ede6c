//! Refused requests, with their status and code.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use ct_codecs::{Base64, Encoder as _};
use serde_json::json;

use super::{audit, proxy, until};
use postern_testbed::kms_proxy::TOKEN;

#[tokio::test]
async fn each_refusal_has_its_status_and_code() {
    let (proxy, caller) = proxy(&["a"]);
    let base64 = |size: usize| Base64::encode_to_string(vec![0; size]).unwrap();
    let request = |payload: &str| json!({"payload_b64": payload}).to_string();
    let fits = request(&base64(1 << 20));
    let no_token = caller.with_token(None);
    let wrong = caller.with_token(Some(&format!("{TOKEN}x")));
    for (client, path, body, status, code) in [
        (&caller, "/sign", request("aGk="), 200, ""),
        (&caller, "/sign", fits, 200, ""),
        (&no_token, "/sign", request("aGk="), 401, "unauthorized"),
        (&wrong, "/sign", request("aGk="), 401, "unauthorized"),
        // Without a token, the response does not reveal whether the body is valid or the path exists.
        (&no_token, "/sign", "{".to_owned(), 401, "unauthorized"),
        (&no_token, "/nothing", String::new(), 401, "unauthorized"),
        (&caller, "/nothing", String::new(), 404, "not_found"),
        (&caller, "/signers", String::new(), 405, "method_not_allowed"),
        (&caller, "/sign", String::new(), 400, "bad_request"),
        (&caller, "/sign", "{".to_owned(), 400, "bad_request"),
        (&caller, "/sign", "{}".to_owned(), 400, "bad_request"),
        (&caller, "/sign", request("aGk"), 400, "bad_request"),
        (&caller, "/sign", request("a-_="), 400, "bad_request"),
        (
            &caller,
            "/sign",
            r#"{"payload_b64":7}"#.to_owned(),
            400,
            "bad_request",
        ),
        (
            &caller,
            "/sign",
            r#"{"payload_b64":"aGk=","signerid":"b"}"#.to_owned(),
            400,
            "bad_request",
        ),
        (
            &caller,
            "/sign",
            r#"{"payload_b64":"aGk=","payload_b64":"aGk="}"#.to_owned(),
            400,
            "bad_request",
        ),
        (
            &caller,
            "/sign",
            r#"{"payload_b64":"aGk=","signer_id":"b"}"#.to_owned(),
            422,
            "unknown_signer",
        ),
        (
            &caller,
            "/sign",
            request(&base64((1 << 20) + 1)),
            413,
            "too_large",
        ),
        (&caller, "/sign", request(&base64(2 << 20)), 413, "too_large"),
    ] {
        let start: String = body.chars().take(60).collect();
        let reply = client.post(path, body, "an-id").await.unwrap();
        assert_eq!(reply.status, status, "{path} {start}: {reply:?}");
        assert_eq!(reply.header("x-request-id"), Some("an-id"), "{start}");
        if status != 200 {
            assert_eq!(
                reply.field("code").as_deref(),
                Some(code),
                "{path} {start}: {reply:?}"
            );
            assert_eq!(reply.field("request_id").as_deref(), Some("an-id"));
            assert_eq!(reply.header("content-type"), Some("application/problem+json"));
            assert_eq!(
                reply.header("www-authenticate"),
                (status == 401).then_some("Bearer")
            );
        }
    }
    assert_eq!(caller.get("/sign").await.unwrap().status, 405);
    for path in ["/signers", "/metrics"] {
        assert_eq!(caller.get(path).await.unwrap().status, 200, "{path}");
        assert_eq!(no_token.get(path).await.unwrap().status, 401, "{path}");
    }
    assert_eq!(no_token.get("/healthz").await.unwrap().status, 200);
    let metrics = caller.get("/metrics").await.unwrap().text;
    for line in [
        "postern_kms_proxy_requests_total{result=\"unknown_signer\"} 1\n",
        "postern_kms_proxy_requests_total{result=\"too_large\"} 2\n",
        "postern_kms_proxy_sign_duration_seconds_count{signer=\"a\"} 2\n",
        "postern_kms_proxy_self_verification_failures_total 0\n",
        "postern_kms_proxy_token_up 1\n",
    ] {
        assert!(metrics.contains(line), "no {line} in\n{metrics}");
    }
    assert!(!proxy.log().contains("panicked"));
}

#[tokio::test]
async fn a_caller_with_read_permission_cannot_sign() {
    let (mut proxy, caller) = proxy(&["a"]);
    proxy.kill();
    let mut settings = proxy.settings(&["a"]);
    settings["callers"]["prometheus"] = json!({"env": "READ_TOKEN", "may": "read"});
    proxy.configure(&settings).unwrap();
    proxy.env("READ_TOKEN", "a-token-that-only-reads");
    proxy.restart().unwrap();
    let reader = caller.with_token(Some("a-token-that-only-reads"));
    for path in ["/signers", "/metrics"] {
        assert_eq!(reader.get(path).await.unwrap().status, 200, "{path}");
    }
    let reply = reader.sign(b"payload", None).await.unwrap();
    assert_eq!(
        (reply.status, reply.field("code").as_deref()),
        (403, Some("forbidden"))
    );
    assert_eq!(audit(&proxy).last().unwrap()["caller"], "prometheus");
    assert_eq!(caller.sign(b"payload", None).await.unwrap().status, 200);
}

/// A request whose client disconnects before the end of the body is recorded as well.
#[tokio::test]
async fn an_abandoned_request_is_recorded() {
    let (proxy, caller) = proxy(&["a"]);
    let mut stream = TcpStream::connect(proxy.addr()).unwrap();
    write!(
        stream,
        "POST /sign HTTP/1.1\r\nhost: kms\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 100\r\n\r\n{{"
    )
    .unwrap();
    // Gives the proxy time to read the head: it records no request before.
    assert_eq!(caller.sign(b"payload", None).await.unwrap().status, 200);
    drop(stream);
    until("the abandoned request is recorded", async || {
        let lines = audit(&proxy);
        lines.iter().any(|line| {
            let result = line["result"].as_str();
            line["caller"] == "gate" && matches!(result, Some("abandoned" | "too_large" | "bad_request"))
        })
    })
    .await;
}

/// Input that is not HTTP gets no successful response, and does not affect other requests.
#[tokio::test]
async fn input_that_is_not_http_does_no_harm() {
    let (proxy, caller) = proxy(&["a"]);
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00"[..],
        b"GET\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense",
        &[0xff; 4096],
    ] {
        let mut stream = TcpStream::connect(proxy.addr()).unwrap();
        let mut response = Vec::new();
        // The proxy may reset or close the connection at any time, with or without a response.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut response);
        assert!(!response.starts_with(b"HTTP/1.1 2"), "{response:?}");
    }
    assert_eq!(caller.sign(b"payload", None).await.unwrap().status, 200);
}

#[tokio::test]
async fn two_authorization_headers_are_refused_whatever_their_values() {
    let (proxy, _) = proxy(&["a"]);
    let good = format!("authorization: Bearer {TOKEN}\r\n");
    for second in [good.as_str(), "authorization: Basic x\r\n", "authorization:\r\n"] {
        for pair in [format!("{good}{second}"), format!("{second}{good}")] {
            let mut stream = TcpStream::connect(proxy.addr()).unwrap();
            let request = format!("GET /signers HTTP/1.1\r\nhost: a\r\n{pair}connection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let mut response = String::new();
            stream.read_to_string(&mut response).unwrap();
            assert!(response.starts_with("HTTP/1.1 401 "), "{pair:?}: {response}");
        }
    }
}

#[tokio::test]
async fn a_connection_without_a_complete_head_is_closed() {
    let (proxy, caller) = proxy(&["a"]);
    let mut held = TcpStream::connect(proxy.addr()).unwrap();
    held.set_read_timeout(Some(std::time::Duration::from_secs(25)))
        .unwrap();
    held.write_all(b"GET /signers HTTP/1.1\r\nhost: a").unwrap();
    let mut response = Vec::new();
    // Closed or reset before the timeout of this socket.
    let ended = held.read_to_end(&mut response);
    let waited = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!waited, "the connection is still open");
    assert_eq!(caller.sign(b"payload", None).await.unwrap().status, 200);
}
