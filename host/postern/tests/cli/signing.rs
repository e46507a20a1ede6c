//! A host that signs through a KMS proxy, and the operations on it while it runs.

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

/// Changes the settings and makes the host reload them.
fn change(host: &PolicyHost, change: impl FnOnce(&mut Value)) {
    let path = host.folder().join("host.yaml");
    let mut settings: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut settings);
    host.install("host.yaml", settings.to_string().as_bytes())
        .unwrap();
    host.reload().unwrap();
}

/// The id of the signer, or the code of the error.
async fn signer(host: &PolicyHost) -> String {
    let client = postern_testbed::http::builder()
        .unix_socket(host.socket())
        .build()
        .unwrap();
    let request = client
        .post("http://host/sign")
        .body(r#"{"payload_b64": "aGVsbG8="}"#);
    let response: Value = request.send().await.unwrap().json().await.unwrap();
    let result = response["signer_id"].as_str().or(response["code"].as_str());
    result.unwrap().to_owned()
}

async fn wait_for_signer(host: &PolicyHost, expected: &str) {
    let end = Instant::now() + Duration::from_secs(15);
    while signer(host).await != expected {
        assert!(Instant::now() < end, "{}", host.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < end, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_changes_the_signer_and_names_what_needs_a_restart() {
    let kms = kms(&["kernel-1", "kernel-2"]);
    let signing = json!({"signer": "kernel-1", "send_signer_id": true, "required": true});
    let host = start(&kms, &signing, &["kernel-1", "kernel-2"]);
    assert_eq!(signer(&host).await, "kernel-1");

    change(&host, |settings| {
        settings["signing"]["signer"] = "kernel-2".into()
    });
    wait_for_signer(&host, "kernel-2").await;
    wait_until("the reload is logged", || {
        host.log().contains("the signer selection")
    });
    assert!(!host.log().contains("restart the host"), "{}", host.log());

    // Settings that need a restart are named.
    change(&host, |settings| {
        settings["signing"]["deadline"] = "7s".into();
        settings["audit"]["batch"] = 7.into();
    });
    wait_until("the settings that need a restart are logged", || {
        host.log().contains("\"left\":\"signing, audit\"") && host.log().contains("restart the host")
    });
    assert_eq!(signer(&host).await, "kernel-2");
}

/// A proxy that implements the contract strictly rejects any field other than `payload_b64`.
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_request_has_only_the_field_of_the_contract() {
    use std::io::{Read as _, Write as _};
    let kms = kms(&["kernel-1"]);
    // A TCP relay that records what the host sends to the proxy.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, target) = (listener.local_addr().unwrap(), kms.addr());
    let (recorder, requests) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut client, recorder) = (connection.unwrap(), recorder.clone());
            let mut server = std::net::TcpStream::connect(target).unwrap();
            let (mut back, mut there) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut there, &mut back));
            std::thread::spawn(move || {
                let mut buffer = [0; 8192];
                while let Ok(read @ 1..) = client.read(&mut buffer) {
                    let _ = recorder.send(String::from_utf8_lossy(&buffer[..read]).into_owned());
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

/// Regression: the end of validity, truncated to seconds, revoked signatures made in the same second.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_stays_valid_after_its_signer_is_retired() {
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
    wait_for_signer(&host, "signing_unavailable").await;
    host.stop().unwrap();

    assert_not_tampered(&folder);
    let events = signer_events(&folder);
    assert!(
        events.contains("\"reason\":\"retired\"") && events.contains("\"signer_id\":\"kernel-1\""),
        "{events}"
    );
}

/// The retirement is recorded when the next host starts.
#[tokio::test(flavor = "multi_thread")]
async fn a_retirement_while_no_host_runs_is_recorded_at_the_next_start() {
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
    let events = signer_events(&folder);
    assert!(events.contains("\"found\":\"start\""), "{events}");
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
