//! What is asked again, and how often.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail this way"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ct_codecs::{Base64, Decoder as _};
use postern_signing::{ProxySettings, Signing};
use serde_json::Value;
use support::{Behaviour, Kms, RegistryDir, SIGNER, metrics, signature_json, start, verifies};

/// How a raw server ends its first connections, once it has read what is asked.
#[derive(Clone, Copy)]
enum ConnectionEnd {
    /// Closes it without a word.
    Silent,
    /// In the middle of its answer.
    HalfAnswered,
    /// With something that is no HTTP.
    NoHttp,
}

/// A server of one request a connection, that ends the first ones badly. It stops with the test's process.
fn raw(bad: usize, ends: ConnectionEnd) -> (ProxySettings, Arc<AtomicUsize>, RegistryDir) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let answer = read_request_and_sign(&mut connection);
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let half = answer.len() / 2;
            let said = match ends {
                _ if number >= bad => answer.as_slice(),
                ConnectionEnd::Silent => b"",
                ConnectionEnd::HalfAnswered => &answer[..half],
                ConnectionEnd::NoHttp => b"SSH-2.0-OpenSSH_9.2p1\r\n",
            };
            connection.write_all(said).unwrap();
        }
    });
    let dir = RegistryDir::new();
    let settings = ProxySettings {
        deadline: Duration::from_secs(2),
        ..ProxySettings::new(url.parse().unwrap(), dir.file())
    };
    (settings, asked, dir)
}

/// Reads a request, and makes the answer to it.
fn read_request_and_sign(connection: &mut TcpStream) -> Vec<u8> {
    let mut read = Vec::new();
    let payload = loop {
        let mut some = [0; 4096];
        let length = connection.read(&mut some).unwrap();
        read.extend_from_slice(&some[..length]);
        let text = String::from_utf8_lossy(&read);
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        if let Some(last_request) = body.and_then(|body| serde_json::from_str::<Value>(&body).ok()) {
            break Base64::decode_to_vec(last_request["payload_b64"].as_str().unwrap(), None).unwrap();
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
async fn what_got_no_answer_is_asked_again_twice() {
    for ends in [ConnectionEnd::Silent, ConnectionEnd::HalfAnswered] {
        for bad in [1, 2] {
            let (settings, asked, _office) = raw(bad, ends);
            let signing = start(settings);
            signs(&signing).await;
            assert_eq!(asked.load(Ordering::SeqCst), bad + 1);
            assert_eq!(
                metrics(&signing)["postern_signing_retries_total"],
                bad.to_string()
            );
        }
        let (settings, asked, _office) = raw(3, ends);
        let signing = start(settings);
        let error = signing.sign(b"payload").await.unwrap_err();
        assert_eq!(
            (error.code(), asked.load(Ordering::SeqCst)),
            ("unreachable", 3),
            "{error}"
        );
        signs(&signing).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http_is_garbage_and_not_asked_again() {
    let (settings, asked, _office) = raw(1, ConnectionEnd::NoHttp);
    let signing = start(settings);
    let error = signing.sign(b"payload").await.unwrap_err();
    assert_eq!(
        (error.code(), asked.load(Ordering::SeqCst)),
        ("garbage", 1),
        "{error}"
    );
    signs(&signing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_proxy_is_given_the_time_it_asks_for_if_that_is_short() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    for (times, pause, asked, code) in [
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
            (asked, code),
            "{times} {pause}"
        );
    }
}
