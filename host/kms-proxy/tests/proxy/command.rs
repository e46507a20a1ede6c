//! `keygen`, `--check` and `--development`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use ed25519_compact::KeyPair;
use postern_signers::parse_key;
use postern_testbed::kms_proxy::{Error, KmsClient, KmsProxy};
use postern_testbed::softhsm;
use serde_json::{Value, json};

use super::{binary, is_signed_by};

fn run(proxy: &KmsProxy, args: &[&str]) -> Output {
    Command::new(binary())
        .args(args)
        .arg("--config")
        .arg(proxy.config())
        .env("SOFTHSM2_CONF", proxy.hsm().conf())
        .env("KMS_PROXY_PIN", softhsm::PIN)
        .env("KMS_PROXY_TOKEN", postern_testbed::kms_proxy::TOKEN)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn keygen_generates_a_key_once() {
    let proxy = KmsProxy::prepare(binary(), &[]).unwrap();
    proxy.configure(&proxy.settings(&["kernel-2026"])).unwrap();
    let made = run(&proxy, &["keygen", "--label", "kernel-2026"]);
    let out = text(&made.stdout);
    assert_eq!(made.status.code(), Some(0), "{made:?}");
    let key = out
        .split_whitespace()
        .find(|word| word.starts_with("ed25519:"))
        .unwrap();
    parse_key(key).unwrap();
    assert!(
        out.contains(&format!(
            "postern signer add kernel-2026 {key} --use payload --registry signers.toml\n"
        )),
        "{out}"
    );
    assert!(
        out.contains("signers: {\"kernel-2026\": {label: \"kernel-2026\", uses: [payload]}}"),
        "{out}"
    );

    let check = run(&proxy, &["--check"]);
    assert_eq!(check.status.code(), Some(0), "{check:?}");
    assert!(
        text(&check.stdout).contains(&format!("kernel-2026: {key}, current")),
        "{check:?}"
    );

    let again = run(&proxy, &["keygen", "--label", "kernel-2026"]);
    assert_eq!(again.status.code(), Some(3));
    assert!(text(&again.stderr).contains("is never replaced"), "{again:?}");
    let shown = run(&proxy, &["keygen", "--label", "kernel-2026", "--show"]);
    assert_eq!((shown.status.code(), text(&shown.stdout)), (Some(0), out.clone()));
    let unknown = run(&proxy, &["keygen", "--label", "kernel-2025", "--show"]);
    assert_eq!(unknown.status.code(), Some(3), "{unknown:?}");

    let named = run(
        &proxy,
        &["keygen", "--label", "key 7", "--signer", "kernel-2027", "--json"],
    );
    let document: Value = serde_json::from_slice(&named.stdout).unwrap();
    assert_eq!(
        (&document["label"], &document["signer_id"]),
        (&json!("key 7"), &json!("kernel-2027"))
    );
    // The label is not a valid signer id, and no other id is given.
    let unnamed = run(&proxy, &["keygen", "--label", "key 8"]);
    assert!(
        text(&unnamed.stderr).contains("set one with --signer"),
        "{unnamed:?}"
    );
    for output in [&made, &check, &again, &named] {
        let all = text(&output.stdout) + &text(&output.stderr);
        assert!(!all.contains(softhsm::PIN), "{all}");
    }
}

#[test]
fn check_reports_errors() {
    let proxy = KmsProxy::prepare(binary(), &["a"]).unwrap();
    let mut settings = proxy.settings(&["a"]);
    settings["signers"]["b"] = json!({"label": "not-there"});
    proxy.configure(&settings).unwrap();
    let check = run(&proxy, &["--check"]);
    assert_eq!(check.status.code(), Some(2), "{check:?}");
    assert!(
        text(&check.stderr).contains("signers.b: there is no private key with the label"),
        "{check:?}"
    );

    settings["colour"] = json!("red");
    proxy.configure(&settings).unwrap();
    let check = run(&proxy, &["--check"]);
    assert_eq!(check.status.code(), Some(3), "{check:?}");
    assert!(
        text(&check.stderr).contains("unknown field \"colour\""),
        "{check:?}"
    );

    let missing = Command::new(binary()).output().unwrap();
    assert_eq!(missing.status.code(), Some(3));
    assert!(text(&missing.stderr).contains("--config"), "{missing:?}");
}

#[tokio::test]
async fn a_software_key_needs_the_flag_and_logs_a_warning() {
    let mut proxy = KmsProxy::prepare(binary(), &[]).unwrap();
    let mut settings = proxy.settings(&["a"]);
    for field in ["token", "signers", "current"] {
        settings.as_object_mut().unwrap().remove(field);
    }
    settings["development"] = json!({});
    proxy.configure(&settings).unwrap();
    match proxy.restart() {
        Err(Error::Exited { status, log }) => {
            assert!(
                status.code() == Some(3) && log.contains("only allowed with --development"),
                "{log}"
            );
        }
        other => panic!("{other:?}"),
    }

    proxy.arg("--development");
    proxy.restart().unwrap();
    let log = proxy.log();
    assert!(
        log.contains("\"WARN\"") && log.contains("DEVELOPMENT: signing with a key in this process's memory"),
        "{log}"
    );
    let caller = KmsClient::new(&proxy).unwrap();
    let reply = caller.sign(b"payload", None).await.unwrap();
    let first = reply.field("signer_id").unwrap();
    assert!(first.starts_with("development-"), "{first}");
    assert!(is_signed_by(&proxy, &first, b"payload", &reply));
    assert_eq!(caller.get("/healthz").await.unwrap().status, 200);

    // A new key at each start, unless it is in a file.
    let file = proxy.folder().join("dev.pem");
    fs::write(&file, KeyPair::generate().sk.to_pem()).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    settings["development"] = json!({"key": file});
    proxy.configure(&settings).unwrap();
    let mut ids = vec![first];
    for _ in 0..2 {
        proxy.kill();
        proxy.restart().unwrap();
        let reply = KmsClient::new(&proxy)
            .unwrap()
            .sign(b"payload", None)
            .await
            .unwrap();
        ids.push(reply.field("signer_id").unwrap());
    }
    assert!(ids[0] != ids[1] && ids[1] == ids[2], "{ids:?}");

    proxy.kill();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let error = proxy.restart().unwrap_err().to_string();
    assert!(error.contains("chmod 600"), "{error}");
}
