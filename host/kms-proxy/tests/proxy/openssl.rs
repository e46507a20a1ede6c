//! Signatures and keys are compatible with another implementation, OpenSSL.

use std::fs;
use std::path::Path;
use std::process::Command;

use ct_codecs::{Base64, Decoder as _, Encoder as _};
use serde_json::json;

use super::{KmsClient, KmsProxy, audit, binary, proxy};

/// A SubjectPublicKeyInfo of Ed25519 up to its key (RFC 8410, section 4).
const SPKI: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

fn verifies(folder: &Path, key: &str, payload: &[u8], signature: &str) -> bool {
    let key = Base64::decode_to_vec(key.strip_prefix("ed25519:").unwrap(), None).unwrap();
    let spki = Base64::encode_to_string([&SPKI[..], &key].concat()).unwrap();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n");
    let path = |name: &str| folder.join(name);
    fs::write(path("key.pem"), pem).unwrap();
    fs::write(path("payload"), payload).unwrap();
    fs::write(path("signature"), Base64::decode_to_vec(signature, None).unwrap()).unwrap();
    let run = Command::new("openssl")
        .args(["pkeyutl", "-verify", "-pubin", "-rawin", "-inkey"])
        .arg(path("key.pem"))
        .arg("-in")
        .arg(path("payload"))
        .arg("-sigfile")
        .arg(path("signature"))
        .output()
        .expect("openssl is installed");
    run.status.success()
}

#[tokio::test]
async fn openssl_verifies_the_signatures() {
    let (proxy, caller) = proxy(&["kernel-2026", "kernel-2025"]);
    let folder = tempfile::tempdir().unwrap();
    let large = vec![0xa5; 1 << 20];
    for payload in [&b"a payload"[..], b"\0", &large] {
        for (requested, signer) in [
            (None, "kernel-2026"),
            (Some("kernel-2026"), "kernel-2026"),
            (Some("kernel-2025"), "kernel-2025"),
        ] {
            let reply = caller.sign(payload, requested).await.unwrap();
            assert_eq!(reply.status, 200, "{reply:?}");
            assert_eq!(reply.field("signer_id").unwrap(), signer);
            let signature = reply.field("signature_b64").unwrap();
            let verifies = |key: &str, payload: &[u8]| {
                verifies(
                    folder.path(),
                    &proxy.public_key(key).unwrap(),
                    payload,
                    &signature,
                )
            };
            assert!(verifies(signer, payload));
            let other = ["kernel-2025", "kernel-2026"][usize::from(signer == "kernel-2025")];
            assert!(!verifies(other, payload), "another signer's key verifies it");
            assert!(!verifies(signer, b"another payload"));
        }
    }
    let shown: serde_json::Value = serde_json::from_str(&caller.get("/signers").await.unwrap().text).unwrap();
    let all = ["payload", "manifest", "checkpoint", "rotation"];
    assert_eq!(
        shown,
        json!({"signers": [
            {"signer_id": "kernel-2025", "public_key": proxy.public_key("kernel-2025"), "uses": all, "current": false},
            {"signer_id": "kernel-2026", "public_key": proxy.public_key("kernel-2026"), "uses": all, "current": true},
        ]})
    );
}

/// Another tool generated this key outside the token, and encodes its public key in its own form.
#[tokio::test]
async fn an_imported_key_signs_and_is_logged_as_a_warning() {
    let mut proxy = KmsProxy::prepare(binary(), &[]).unwrap();
    let pem = proxy.folder().join("imported.pem");
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "ed25519", "-out"])
        .arg(&pem)
        .status();
    assert!(made.expect("openssl is installed").success());
    let (token, pin) = (postern_testbed::softhsm::LABEL, postern_testbed::softhsm::PIN);
    proxy
        .hsm()
        .util(&[
            "--import",
            pem.to_str().unwrap(),
            "--token",
            token,
            "--label",
            "imported",
            "--id",
            "0102",
            "--pin",
            pin,
        ])
        .unwrap();
    proxy.configure(&proxy.settings(&["imported"])).unwrap();
    proxy.restart().unwrap();
    assert!(proxy.log().contains("was not generated in the token"));
    let reply = KmsClient::new(&proxy)
        .unwrap()
        .sign(b"payload", None)
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = proxy.public_key("imported").unwrap();
    assert!(verifies(
        folder.path(),
        &key,
        b"payload",
        &reply.field("signature_b64").unwrap()
    ));
}

#[tokio::test]
async fn each_request_is_recorded_without_secrets() {
    let (proxy, caller) = proxy(&["a"]);
    let payload = b"a-payload-that-must-not-be-logged";
    for (caller, code) in [
        (caller.clone(), 200),
        (caller.with_token(None), 401),
        (caller.with_token(Some("an-unknown-token-of-a-caller")), 401),
    ] {
        assert_eq!(caller.sign(payload, None).await.unwrap().status, code);
    }
    assert_eq!(caller.get("/nothing").await.unwrap().status, 404);
    let lines = audit(&proxy);
    let recorded: Vec<_> = lines
        .iter()
        .map(|line| {
            (
                line["caller"].as_str(),
                line["result"].as_str().unwrap(),
                line["status"].as_u64().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        recorded,
        [
            (Some("gate"), "ok", 200),
            (None, "unauthorized", 401),
            (None, "unauthorized", 401),
            (Some("gate"), "not_found", 404),
        ]
    );
    let first = &lines[0];
    assert_eq!(first["request_id"], "testbed");
    assert_eq!(first["signer_id"], "a");
    // printf %s a-payload-that-must-not-be-logged | sha256sum
    assert_eq!(
        first["payload_sha256"],
        "1008599282195c76555ffca41c28a928285912b0cb5600be771ac251cda2e760"
    );
    assert!(first["latency_us"].as_u64().unwrap() > 0 && first["timestamp"].is_string());
    let log = proxy.log();
    let base64 = Base64::encode_to_string(payload).unwrap();
    for secret in [
        postern_testbed::softhsm::PIN,
        postern_testbed::kms_proxy::TOKEN,
        "an-unknown-token-of-a-caller",
        std::str::from_utf8(payload).unwrap(),
        &base64,
    ] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
}
