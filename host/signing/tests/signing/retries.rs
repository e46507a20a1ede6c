//! Which requests are retried, and how often.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::{Behaviour, Kms, RegistryDir, SIGNER, metrics, signature_json, start, verifies};
use ct_codecs::{Base64, Decoder as _};
use postern_signing::{ProxySettings, Signing};
use serde_json::Value;

/// How a raw server ends its first connections after it has read the request.
#[derive(Clone, Copy)]
enum ConnectionEnd {
    /// Without a response.
    NoResponse,
    /// In the middle of the response.
    HalfResponse,
    /// With bytes that are not HTTP.
    NotHttp,
}

/// A server of one request per connection. The first `bad` connections end as given. It stops with the test process.
fn raw(bad: usize, end: ConnectionEnd) -> (ProxySettings, Arc<AtomicUsize>, RegistryDir) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&requests);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let response = read_request_and_sign(&mut connection);
            let number = counter.fetch_add(1, Ordering::SeqCst);
            let half = response.len() / 2;
            let bytes = match end {
                _ if number >= bad => response.as_slice(),
                ConnectionEnd::NoResponse => b"",
                ConnectionEnd::HalfResponse => &response[..half],
                ConnectionEnd::NotHttp => b"SSH-2.0-OpenSSH_9.2p1\r\n",
            };
            connection.write_all(bytes).unwrap();
        }
    });
    let dir = RegistryDir::new();
    let settings = ProxySettings {
        deadline: Duration::from_secs(2),
        ..ProxySettings::new(url.parse().unwrap(), dir.file())
    };
    (settings, requests, dir)
}

/// Reads a request, and returns a correct response.
fn read_request_and_sign(connection: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    let payload = loop {
        let mut buffer = [0; 4096];
        let length = connection.read(&mut buffer).unwrap();
        received.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&received);
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        if let Some(request) = body.and_then(|body| serde_json::from_str::<Value>(&body).ok()) {
            break Base64::decode_to_vec(request["payload_b64"].as_str().unwrap(), None).unwrap();
        }
        assert!(length > 0, "no request");
    };
    let body = signature_json(SIGNER, SIGNER, &payload).to_string();
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").into_bytes()
}

async fn signs(signing: &Signing) {
    let signed = signing.sign(b"payload").await.unwrap();
    assert!(verifies(SIGNER, b"payload", &signed.signature));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_without_a_response_are_retried_twice() {
    for end in [ConnectionEnd::NoResponse, ConnectionEnd::HalfResponse] {
        for bad in [1, 2] {
            let (settings, requests, _dir) = raw(bad, end);
            let signing = start(settings);
            signs(&signing).await;
            assert_eq!(requests.load(Ordering::SeqCst), bad + 1);
            assert_eq!(
                metrics(&signing)["postern_signing_retries_total"],
                bad.to_string()
            );
        }
        let (settings, requests, _dir) = raw(3, end);
        let signing = start(settings);
        let error = signing.sign(b"payload").await.unwrap_err();
        assert_eq!(
            (error.code(), requests.load(Ordering::SeqCst)),
            ("unreachable", 3),
            "{error}"
        );
        signs(&signing).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_is_not_http_is_garbage_and_not_retried() {
    let (settings, requests, _dir) = raw(1, ConnectionEnd::NotHttp);
    let signing = start(settings);
    let error = signing.sign(b"payload").await.unwrap_err();
    assert_eq!(
        (error.code(), requests.load(Ordering::SeqCst)),
        ("garbage", 1),
        "{error}"
    );
    signs(&signing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_retry_after_is_honoured() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    for (times, pause, requests, code) in [
        (1, "0", 2, None),
        (2, "0", 3, None),
        (3, "0", 3, Some("status")),
        (1, "2", 1, Some("status")),
        (1, "Sat, 21 Nov 2026 07:28:00 GMT", 1, Some("status")),
        // Longer than the deadline of these tests.
        (1, "1", 1, Some("timeout")),
    ] {
        kms.set_behaviour(Behaviour::Busy(times, pause));
        let before = kms.sign_requests();
        let found = signing.sign(b"payload").await.err().map(|error| error.code());
        assert_eq!(
            (kms.sign_requests() - before, found),
            (requests, code),
            "{times} {pause}"
        );
    }
}
