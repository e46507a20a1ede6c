//! A caller who may have payloads signed must not get a signature over bytes that a verifier accepts as a checkpoint, a
//! rotation statement, a manifest or a policy manifest.

use std::collections::BTreeMap;

use postern_testbed::kms_proxy::{self, KmsClient, KmsProxy};
use postern_testbed::policy_host::{self, PolicyHost};
use reqwest::Client;
use serde_json::{Value, json};

const ORIGIN: &str = "postern.example/oracle";
const ROOT: &str = "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=";
const DIGEST: &str = "thirty-two bytes, as a digest is";

/// A key without uses, as in older registries, and a host that signs everything with it.
fn host_with_one_key() -> (PolicyHost, KmsProxy) {
    let binary = policy_host::binary().unwrap();
    let kms = KmsProxy::start(kms_proxy::binary().unwrap(), &["kernel"]).unwrap();
    let key = kms.public_key("kernel").unwrap();
    let settings = json!({
        "policies": {"entries": {}},
        "gate": {"token": {"env": "POSTERN_GATE_TOKEN"}},
        "signing": {"proxy": kms.url(), "signer": "kernel", "signers": "signers.toml", "required": true},
        "audit": {"store": "sqlite:audit.db", "origin": ORIGIN},
    });
    let environment = [
        ("SIGNING_PROXY_API_KEY", kms_proxy::TOKEN),
        ("POSTERN_GATE_TOKEN", "a-token-that-no-gate-of-this-host-shows"),
    ];
    let registry = format!("[signers.kernel]\npublic_key = \"{key}\"\nstatus = \"active\"\n");
    let host = PolicyHost::start_with(binary, &settings, &environment, |folder| {
        std::fs::write(folder.join("signers.toml"), registry)
    });
    (host.unwrap_or_else(|error| panic!("{error}")), kms)
}

fn gate_client(host: &PolicyHost) -> Client {
    let builder = postern_testbed::http::builder();
    builder.unix_socket(host.socket()).build().unwrap()
}

async fn sign(gate: &Client, payload: &[u8]) -> (u16, Value) {
    let body = json!({"payload_b64": base64(payload)}).to_string();
    let response = gate.post("http://host/sign").body(body).send().await.unwrap();
    (
        response.status().as_u16(),
        response.json().await.unwrap_or_default(),
    )
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .fold(0_u32, |bits, byte| (bits << 8) | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for place in 0..4 {
            text.push(if place <= three.len() {
                char::from(DIGITS[((bits >> (18 - 6 * place)) & 63) as usize])
            } else {
                '='
            });
        }
    }
    text
}

/// Payloads that other software may read as what only the host signs.
fn forgeries() -> BTreeMap<&'static str, Vec<u8>> {
    let note = |rest: &str| format!("{ORIGIN}\n7\n{ROOT}\n{rest}").into_bytes();
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let rotation = r#"{"new":"b","new_key":"ed25519:x","old":"a","time":"2026-01-01T00:00:00Z"}"#;
    BTreeMap::from([
        (
            "a checkpoint of Postern",
            note("time 2026-01-01T00:00:00.000000Z\n"),
        ),
        ("a checkpoint without a time", note("")),
        (
            "a checkpoint with an extension",
            note("time 2026-01-01T00:00:00.000000Z\nwitnessed\n"),
        ),
        (
            "a checkpoint without microseconds",
            note("time 2026-01-01T00:00:00Z\n"),
        ),
        (
            "a checkpoint with a time offset",
            note("time 2026-01-01T00:00:00.000000+00:00\n"),
        ),
        (
            "a checkpoint with CRLF",
            format!("{ORIGIN}\r\n7\r\n{ROOT}\r\n").into_bytes(),
        ),
        (
            "a checkpoint after a blank line",
            format!("\n {ORIGIN} \n7\n{ROOT}\n").into_bytes(),
        ),
        (
            "a checkpoint of another log",
            format!("elsewhere\n0007\n{ROOT}\n").into_bytes(),
        ),
        (
            "a checkpoint with a hexadecimal size",
            format!("{ORIGIN}\n0x7\n{ROOT}\n").into_bytes(),
        ),
        (
            "the first line of a checkpoint",
            format!("{ORIGIN}\n").into_bytes(),
        ),
        (
            "a cosignature",
            format!("cosignature/v1\ntime 1\n{ORIGIN}\n7\n{ROOT}\n").into_bytes(),
        ),
        ("a checkpoint in UTF-16", wide(&format!("elsewhere\n7\n{ROOT}\n"))),
        ("a statement", rotation.as_bytes().to_vec()),
        (
            "a statement with an additional member",
            rotation.replace('{', "{\"x\":1,").into_bytes(),
        ),
        (
            "a statement with a duplicate member",
            rotation.replace('{', "{\"old\":\"z\",").into_bytes(),
        ),
        (
            "a statement, escaped",
            rotation.replace("new_key", "new\\u005fkey").into_bytes(),
        ),
        (
            "a statement, in upper case",
            rotation.replace("old", "OLD").into_bytes(),
        ),
        (
            "a statement without a time",
            rotation
                .replace(",\"time\":\"2026-01-01T00:00:00Z\"", "")
                .into_bytes(),
        ),
        ("a statement in UTF-16", wide(rotation)),
        ("a policy manifest", b"postern policy manifest v1\n{}".to_vec()),
        ("a hash", DIGEST.as_bytes().to_vec()),
    ])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_reads_as_another_use_is_not_signed() {
    let (host, _kms) = host_with_one_key();
    let gate = gate_client(&host);
    let (status, response) = sign(&gate, b"hello").await;
    assert_eq!(
        (status, &response["signer_id"]),
        (200, &json!("kernel")),
        "{}",
        host.log()
    );
    for (name, payload) in forgeries() {
        let (status, response) = sign(&gate, &payload).await;
        assert_eq!(
            (status, &response["code"]),
            (400, &json!("bad_request")),
            "{name}: {response}"
        );
        assert!(response["signature_b64"].is_null(), "{name}: {response}");
    }
}

/// The KMS proxy does not sign it either, whoever the caller is.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_signs_only_for_its_uses() {
    let signers: [(&str, &[&str]); 4] = [
        ("payloads", &["payload"]),
        ("manifests", &["manifest"]),
        ("log", &["checkpoint"]),
        ("root", &["rotation"]),
    ];
    let kms = KmsProxy::start_with_uses(kms_proxy::binary().unwrap(), &signers).unwrap();
    let client = KmsClient::new(&kms).unwrap();
    let forgeries = forgeries();
    let policy_manifest = &forgeries["a policy manifest"];
    for (message, allowed) in [
        (&b"hello"[..], &["payloads"][..]),
        (&forgeries["a checkpoint without a time"], &["log"]),
        (&forgeries["a cosignature"], &["log"]),
        (&forgeries["a statement"], &["root"]),
        (&forgeries["a statement, escaped"], &["root"]),
        (policy_manifest, &["manifests"]),
        (DIGEST.as_bytes(), &["payloads", "manifests"]),
    ] {
        for (signer, _) in signers {
            let response = client.sign(message, Some(signer)).await.unwrap();
            let text = String::from_utf8_lossy(message);
            let expected = if allowed.contains(&signer) { 200 } else { 422 };
            assert_eq!(response.status, expected, "{signer}: {text}: {}", response.text);
            if expected == 422 {
                assert_eq!(response.field("code").as_deref(), Some("signer_use"));
            }
        }
    }
    let signers: Value = serde_json::from_str(&client.get("/signers").await.unwrap().text).unwrap();
    assert!(
        signers.to_string().contains(r#""uses":["checkpoint"]"#),
        "{signers}"
    );
}
