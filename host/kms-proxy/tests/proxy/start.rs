//! Conditions under which a proxy does not start, and how it reports them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use postern_testbed::kms_proxy::{Error, KmsProxy};
use postern_testbed::softhsm;
use serde_json::{Value, json};

use super::{KmsClient, audit, binary, is_signed_by};

/// The exit code and the log of a proxy that does not start with these settings.
fn fail_to_start(proxy: &mut KmsProxy, settings: &Value) -> (i32, String) {
    proxy.configure(settings).unwrap();
    let before = proxy.log().len();
    match proxy.restart() {
        Err(Error::Exited { status, log }) => (status.code().unwrap(), log[before..].to_owned()),
        other => panic!("{settings}: {other:?}"),
    }
}

#[tokio::test]
async fn unusable_settings_are_reported_at_the_start() {
    let mut proxy = KmsProxy::prepare(binary(), &["a"]).unwrap();
    let good = proxy.settings(&["a"]);
    let pipe = proxy.folder().join("pipe.so");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (at, value, code, expected) in [
        (
            "/signers/a/label",
            json!("b"),
            2,
            "signers.a: there is no private key with the label \"b\"",
        ),
        (
            "/token/label",
            json!("other"),
            2,
            "no token has the label \"other\"; there is \"testbed\"",
        ),
        (
            "/token/module",
            json!("/no/such.so"),
            3,
            "token.module: /no/such.so cannot be loaded",
        ),
        // A library that is not a PKCS#11 module.
        (
            "/token/module",
            json!("/lib/x86_64-linux-gnu/libm.so.6"),
            3,
            "cannot be loaded as a PKCS#11 module",
        ),
        // The loader would wait for its writer.
        ("/token/module", json!(pipe), 3, "is not a regular file"),
        (
            "/token/pin/env",
            json!("UNSET"),
            3,
            "token.pin.env: UNSET is not set",
        ),
        ("/current", json!("b"), 3, "current: there is no signer \"b\""),
        ("/listen", json!("0.0.0.0:1"), 3, "listen: needs \"tls"),
        ("/callers", json!({}), 3, "listen: needs callers"),
    ] {
        let mut settings = good.clone();
        *settings.pointer_mut(at).unwrap() = value;
        let (found, log) = fail_to_start(&mut proxy, &settings);
        assert!(found == code && log.contains(expected), "{at}: {found} {log}");
    }
    proxy.configure(&good).unwrap();
    proxy.restart().unwrap();
    let reply = KmsClient::new(&proxy)
        .unwrap()
        .sign(b"payload", None)
        .await
        .unwrap();
    assert!(is_signed_by(&proxy, "a", b"payload", &reply));
}

#[tokio::test]
async fn a_unix_socket_is_limited_to_its_group_and_removed_at_exit() {
    let mut proxy = KmsProxy::prepare(binary(), &["a"]).unwrap();
    let mut settings = proxy.settings(&["a"]);
    settings["listen"] = json!("unix:kms.sock");
    settings.as_object_mut().unwrap().remove("callers");
    proxy.configure(&settings).unwrap();
    let socket = proxy.folder().join("kms.sock");
    // A stale socket is replaced; a file is not.
    drop(UnixListener::bind(&socket).unwrap());
    proxy.restart().unwrap();
    assert_eq!(fs::metadata(&socket).unwrap().mode() & 0o777, 0o660);
    let reply = KmsClient::at_socket(&proxy, "kms.sock")
        .unwrap()
        .sign(b"payload", None)
        .await
        .unwrap();
    assert!(is_signed_by(&proxy, "a", b"payload", &reply), "{reply:?}");
    assert_eq!(audit(&proxy)[0]["caller"], "socket");
    proxy.signal("TERM").unwrap();
    assert_eq!(proxy.wait().unwrap().code(), Some(0));
    assert!(!socket.exists());

    fs::write(&socket, "a file").unwrap();
    let (code, log) = fail_to_start(&mut proxy, &settings);
    assert!(code == 2 && log.contains("exists and is not a socket"), "{log}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "a file");
}

#[test]
fn a_wrong_pin_is_reported_and_not_tried_again() {
    let mut proxy = KmsProxy::prepare(binary(), &["a"]).unwrap();
    proxy.env("KMS_PROXY_PIN", "not-the-pin");
    let settings = proxy.settings(&["a"]);
    let started = Instant::now();
    let (code, log) = fail_to_start(&mut proxy, &settings);
    assert_eq!(code, 3);
    assert!(
        log.contains("rejects the user PIN (PinIncorrect); it is not tried again"),
        "{log}"
    );
    assert_eq!(log.matches("PinIncorrect").count(), 1, "{log}");
    assert!(!log.contains("not-the-pin") && started.elapsed() < Duration::from_secs(10));

    proxy.env("KMS_PROXY_PIN", softhsm::PIN);
    proxy.restart().unwrap();
}

#[test]
fn tokens_with_the_same_label_are_distinguished_by_serial() {
    let mut proxy = KmsProxy::prepare(binary(), &["a"]).unwrap();
    proxy.hsm().init(softhsm::LABEL).unwrap();
    let settings = proxy.settings(&["a"]);
    let (code, log) = fail_to_start(&mut proxy, &settings);
    assert!(
        code == 2 && log.contains("2 tokens have the label \"testbed\": use `serial` instead"),
        "{log}"
    );
    // SoftHSM2 names the token's folder by a UUID; its last 16 digits, without hyphens, are the serial number.
    let serials = std::fs::read_dir(proxy.hsm().tokens()).unwrap().map(|entry| {
        let name = entry.unwrap().file_name().into_string().unwrap().replace('-', "");
        name[name.len() - 16..].to_owned()
    });
    let mut results = Vec::new();
    for serial in serials.collect::<Vec<_>>() {
        let mut settings = settings.clone();
        settings["token"].as_object_mut().unwrap().remove("label");
        settings["token"]["serial"] = json!(serial);
        proxy.configure(&settings).unwrap();
        results.push(match proxy.restart() {
            Ok(()) => {
                proxy.kill();
                "serves"
            }
            Err(Error::Exited { log, .. }) if log.contains("signers.a: there is no private key") => "no key",
            Err(error) => panic!("{error}"),
        });
    }
    results.sort_unstable();
    assert_eq!(results, ["no key", "serves"]);
}

/// A core dump would contain the PIN.
#[test]
fn core_dumps_are_disabled() {
    let proxy = KmsProxy::start(binary(), &["a"]).unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", proxy.pid().unwrap())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{limits}");
}
