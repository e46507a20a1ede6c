//! A host that signs through a KMS proxy, and what its operators do while it runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail this way"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use postern_testbed::kms_proxy::{self, KmsProxy};
use postern_testbed::policy_host::PolicyHost;
use serde_json::{Value, json};

fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_postern"))
}

fn kms(signers: &[&str]) -> KmsProxy {
    let started = kms_proxy::binary().and_then(|binary| KmsProxy::start(binary, signers));
    started.unwrap_or_else(|error| panic!("{error}"))
}

fn settings(kms: &KmsProxy, signing: &Value) -> Value {
    let mut signing = signing.clone();
    if signing["proxy"].is_null() {
        signing["proxy"] = kms.url().into();
    }
    signing["token"] = json!({"env": "SIGNING_PROXY_API_KEY"});
    signing["signers"] = "signers.toml".into();
    json!({
        "policies": {"entries": {}},
        "gate": {"token": {"env": "POSTERN_GATE_TOKEN"}},
        "signing": signing,
        "audit": {"store": "sqlite:audit.db", "origin": "postern.example/test",
            "checkpoints": {"every": 1, "after": "1s", "file": "audit.notes"}},
    })
}

fn start(kms: &KmsProxy, signing: &Value, signers: &[&str]) -> PolicyHost {
    let environment = [
        ("SIGNING_PROXY_API_KEY", kms_proxy::TOKEN),
        ("POSTERN_GATE_TOKEN", "a-token-that-no-gate-of-this-host-shows"),
    ];
    let host = PolicyHost::start_with(
        binary(),
        &settings(kms, signing),
        &environment,
        |folder: &Path| {
            for signer in signers {
                let key = kms.public_key(signer).unwrap();
                let added = run(
                    folder,
                    &[
                        "signer",
                        "add",
                        signer,
                        &key,
                        "--use",
                        "payload,manifest,checkpoint",
                        "--registry",
                        "signers.toml",
                    ],
                );
                assert!(added.status.success(), "{added:?}");
            }
            Ok(())
        },
    );
    host.unwrap_or_else(|error| panic!("{error}"))
}

fn run(folder: &Path, args: &[&str]) -> Output {
    Command::new(binary())
        .current_dir(folder)
        .args(args)
        .output()
        .unwrap()
}

/// Writes other settings, and has the host read them.
fn change(host: &PolicyHost, change: impl FnOnce(&mut Value)) {
    let path = host.folder().join("host.yaml");
    let mut settings: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut settings);
    host.install("host.yaml", settings.to_string().as_bytes())
        .unwrap();
    host.reload().unwrap();
}

/// Who signed, or the code of the refusal.
async fn signer(host: &PolicyHost) -> String {
    let client = postern_testbed::http::builder()
        .unix_socket(host.socket())
        .build()
        .unwrap();
    let request = client
        .post("http://host/sign")
        .body(r#"{"payload_b64": "aGVsbG8="}"#);
    let answer: Value = request.send().await.unwrap().json().await.unwrap();
    let told = answer["signer_id"].as_str().or(answer["code"].as_str());
    told.unwrap().to_owned()
}

async fn becomes(host: &PolicyHost, expected: &str) {
    let end = Instant::now() + Duration::from_secs(15);
    while signer(host).await != expected {
        assert!(Instant::now() < end, "{}", host.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < end, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_are_read_again_say_who_signs() {
    let kms = kms(&["kernel-1", "kernel-2"]);
    let signing = json!({"signer": "kernel-1", "send_signer_id": true, "required": true});
    let host = start(&kms, &signing, &["kernel-1", "kernel-2"]);
    assert_eq!(signer(&host).await, "kernel-1");

    change(&host, |settings| {
        settings["signing"]["signer"] = "kernel-2".into()
    });
    becomes(&host, "kernel-2").await;
    wait_until("it says so", || host.log().contains("who is asked to sign"));
    assert!(!host.log().contains("restart the host"), "{}", host.log());

    // What is not taken is named.
    change(&host, |settings| {
        settings["signing"]["deadline"] = "7s".into();
        settings["audit"]["batch"] = 7.into();
    });
    wait_until("it names what needs a restart", || {
        host.log().contains("\"left\":\"signing, audit\"") && host.log().contains("restart the host")
    });
    assert_eq!(signer(&host).await, "kernel-2");
}

/// A proxy that is strict about the contract: it refuses a request with any other field than `payload_b64`.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_is_asked_for_nothing_but_the_contract() {
    use std::io::{Read as _, Write as _};
    let kms = kms(&["kernel-1"]);
    // What the host sends to the proxy, on its way there.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, target) = (listener.local_addr().unwrap(), kms.addr());
    let (seen, requests) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut client, seen) = (connection.unwrap(), seen.clone());
            let mut server = std::net::TcpStream::connect(target).unwrap();
            let (mut back, mut there) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut there, &mut back));
            std::thread::spawn(move || {
                let mut buffer = [0; 8192];
                while let Ok(read @ 1..) = client.read(&mut buffer) {
                    let _ = seen.send(String::from_utf8_lossy(&buffer[..read]).into_owned());
                    if server.write_all(&buffer[..read]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let signing = json!({"signer": "kernel-1", "proxy": format!("http://{address}")});
    let host = start(&kms, &signing, &["kernel-1"]);
    assert_eq!(signer(&host).await, "kernel-1");
    let sent: String = requests.try_iter().collect();
    assert!(sent.contains("{\"payload_b64\":\"aGVsbG8=\"}"), "{sent}");
    assert!(!sent.contains("signer_id"), "{sent}");
}

/// The end of its validity, cut to seconds, took back what it signed in the same second.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_whole_after_its_signer_is_retired() {
    let kms = kms(&["kernel-1"]);
    let mut host = start(&kms, &json!({"signer": "kernel-1"}), &["kernel-1"]);
    let folder = host.folder().to_owned();
    let notes = || std::fs::read_to_string(folder.join("audit.notes")).unwrap_or_default();
    let before = notes().len();
    assert_eq!(signer(&host).await, "kernel-1");
    wait_until("a checkpoint", || {
        notes().len() > before && notes().contains("kernel-1")
    });
    let retired = run(
        &folder,
        &["signer", "retire", "kernel-1", "--registry", "signers.toml"],
    );
    assert!(retired.status.success(), "{retired:?}");
    becomes(&host, "signing_unavailable").await;
    host.stop().unwrap();

    assert_not_tampered(&folder);
    let told = signer_events(&folder);
    assert!(
        told.contains("\"reason\":\"retired\"") && told.contains("\"signer_id\":\"kernel-1\""),
        "{told}"
    );
}

/// The log says so when the next host starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_signer_that_is_retired_while_no_host_runs() {
    let kms = kms(&["kernel-1"]);
    let mut host = start(&kms, &json!({"signer": "kernel-1"}), &["kernel-1"]);
    let folder = host.folder().to_owned();
    assert_eq!(signer(&host).await, "kernel-1");
    host.stop().unwrap();
    assert!(!signer_events(&folder).contains("retired"));
    let retire = ["signer", "retire", "kernel-1", "--registry", "signers.toml"];
    assert!(run(&folder, &retire).status.success());
    host.restart().unwrap();
    host.stop().unwrap();
    let told = signer_events(&folder);
    assert!(told.contains("\"found\":\"start\""), "{told}");
    assert_not_tampered(&folder);
}

fn signer_events(folder: &Path) -> String {
    let query = [
        "audit",
        "query",
        "--store",
        "sqlite:audit.db",
        "--kind",
        "signer",
        "--format",
        "json",
    ];
    String::from_utf8(run(folder, &query).stdout).unwrap()
}

fn assert_not_tampered(folder: &Path) {
    let verify = [
        "audit",
        "verify",
        "--store",
        "sqlite:audit.db",
        "--signers",
        "signers.toml",
        "--checkpoints",
        "audit.notes",
    ];
    let verified = run(folder, &verify);
    let out = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(!out.contains("checkpoint_signer_not_valid"), "{out}");
    let tampered = Some(2);
    assert_ne!(verified.status.code(), tampered, "{out}");
}
