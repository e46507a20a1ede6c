//! The whole signing chain through a real Envoy: a PKCS#11 token with the keys, the KMS proxy, the policy host, and the
//! audit log, which is verified in the end as an auditor would.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use postern_e2e::{Fixture, Request, Setup, Version, audited_gate_yaml, client};
use postern_testbed::idp::Alg;
use postern_testbed::kms_proxy::{self, KmsProxy};
use postern_testbed::policy_host::{self, PolicyHost};
use postern_testbed::tokens;
use serde_json::{Value, json};

const SIGNER: &str = "kernel-2026";
/// The keys of the token and their uses.
const SIGNERS: [(&str, &[&str]); 3] = [
    (SIGNER, &["payload"]),
    ("manifests-2026", &["manifest"]),
    ("log-2026", &["checkpoint"]),
];
const PAYLOAD: &str = r#"{"payload_b64": "aGVsbG8="}"#;

struct Chain {
    fixture: Fixture,
    host: PolicyHost,
    kms: KmsProxy,
}

fn rule(name: &str, path: &str, audit: &str) -> Value {
    json!({"name": name, "match": {"path": {"prefix": path}}, "open": true, "audit": audit})
}

impl Chain {
    fn start() -> Self {
        let binary = policy_host::binary().unwrap_or_else(|error| panic!("{error}"));
        let kms = kms_proxy::binary().and_then(|binary| KmsProxy::start_with_uses(binary, &SIGNERS));
        let kms = kms.unwrap_or_else(|error| panic!("{error}"));
        let entry = |(signer, uses): (&str, &[&str])| {
            let key = kms.public_key(signer).unwrap();
            format!("[signers.{signer}]\npublic_key = \"{key}\"\nstatus = \"active\"\nuses = {uses:?}\n")
        };
        let registry: String = SIGNERS.map(entry).concat();
        let settings = json!({
            "policies": {"entries": {}},
            "gate": {"token": {"env": "POSTERN_GATE_TOKEN"}},
            "signing": {"proxy": kms.url(), "signer": SIGNER, "signers": "signers.toml", "required": true,
                "uses": {"manifest": "manifests-2026", "checkpoint": "log-2026"}, "send_signer_id": true},
            "audit": {"store": "sqlite:audit.db", "origin": "postern.example/e2e",
                "checkpoints": {"every": 50, "after": "1s", "file": "audit.notes"}},
        });
        let environment = [
            ("SIGNING_PROXY_API_KEY", kms_proxy::TOKEN),
            // Required for the TCP port; the gate connects to the Unix socket.
            ("POSTERN_GATE_TOKEN", "a-token-that-no-gate-of-this-host-shows"),
        ];
        let host = PolicyHost::start_with(binary, &settings, &environment, |folder: &Path| {
            std::fs::write(folder.join("signers.toml"), registry)
        });
        let host = host.unwrap_or_else(|error| panic!("{error}"));
        let mut gate = audited_gate_yaml();
        gate["signatures"] = json!({});
        gate["host"]["timeout"] = "1s".into();
        let rules = gate["rules"].as_array_mut().unwrap();
        rules.retain(|rule| rule["name"] == "sign");
        rules.push(rule("required", "/required", "required"));
        rules.push(rule("optional", "/optional", "on"));
        let fixture = Setup::new(gate).policy_host_socket(host.socket()).start();
        Self { fixture, host, kms }
    }

    async fn sign(&self, role: &str) -> (u16, Value) {
        let mut claims = tokens::claims("https://idp.example", "orders", "ann", 600);
        claims["realm_access"] = json!({"roles": [role]});
        let token = self.fixture.idp.mint(Alg::Es256, &claims);
        let request = Request::post("/kernel/sign", PAYLOAD).header("content-type", "application/json");
        let response = request
            .bearer(&token)
            .send(&client(Version::Http1), &self.fixture)
            .await;
        (
            response.status,
            serde_json::from_slice(&response.body).unwrap_or_default(),
        )
    }

    /// Signs until the response has this status: an open circuit breaker takes time to close.
    async fn sign_until(&self, status: u16) {
        let started = Instant::now();
        while self.sign("Service").await.0 != status {
            assert!(started.elapsed() < Duration::from_secs(15), "{}", self.host.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn postern(&self, args: &[&str]) -> Output {
        let mut command = Command::new(policy_host::binary().unwrap());
        command
            .current_dir(self.host.folder())
            .args(args)
            .output()
            .unwrap()
    }

    /// The records of the events of a kind, oldest first.
    fn records(&self, kind: &str) -> Vec<Value> {
        let args = [
            "audit",
            "query",
            "--store",
            "sqlite:audit.db",
            "--limit",
            "100000",
            "--format",
            "json",
        ];
        let found = self.postern(&[&args[..], &["--kind", kind]].concat());
        assert!(
            found.status.success(),
            "{}",
            String::from_utf8_lossy(&found.stderr)
        );
        let text = String::from_utf8(found.stdout).unwrap();
        text.lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["record"].clone())
            .collect()
    }

    /// The request ids in the events of a kind and rule.
    fn request_ids(&self, kind: &str, rule: &str) -> Vec<String> {
        let records = self.records(kind).into_iter();
        records
            .filter(|record| record["rule"] == rule)
            .map(|record| record["request_id"].as_str().unwrap().to_owned())
            .collect()
    }

    fn assert_log_verifies(&self) {
        let verified = self.postern(&[
            "audit",
            "verify",
            "--store",
            "sqlite:audit.db",
            "--signers",
            "signers.toml",
            "--checkpoints",
            "audit.notes",
        ]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            verified.status.success(),
            "{}{}",
            text(&verified.stdout),
            text(&verified.stderr)
        );
    }
}

/// Verifies with OpenSSL, which shares no code with the signer.
fn verify_with_openssl(folder: &Path, key: &str, payload: &[u8], signature: &str) {
    use std::io::Write as _;
    let base64 = |text: &str| {
        let mut child = Command::new("base64")
            .arg("-d")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        child.wait_with_output().unwrap().stdout
    };
    // A SubjectPublicKeyInfo (RFC 8410): this prefix and the key.
    let mut der = vec![
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
    ];
    der.extend(base64(key.strip_prefix("ed25519:").unwrap()));
    std::fs::write(folder.join("key.der"), der).unwrap();
    std::fs::write(folder.join("payload"), payload).unwrap();
    std::fs::write(folder.join("signature"), base64(signature)).unwrap();
    let mut openssl = Command::new("openssl");
    openssl.current_dir(folder).args([
        "pkeyutl",
        "-verify",
        "-pubin",
        "-keyform",
        "DER",
        "-inkey",
        "key.der",
        "-rawin",
        "-in",
        "payload",
        "-sigfile",
        "signature",
    ]);
    let verified = openssl.output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

#[tokio::test]
async fn a_service_gets_signatures_without_holding_a_key() {
    let mut chain = Chain::start();
    let (status, response) = chain.sign("User").await;
    assert_eq!((status, &response["code"]), (403, &json!("role_missing")));
    let (status, response) = chain.sign("Service").await;
    assert_eq!(
        (status, &response["signer_id"]),
        (200, &json!(SIGNER)),
        "{response}"
    );
    let key = chain.kms.public_key(SIGNER).unwrap();
    let signature = response["signature_b64"].as_str().unwrap();
    verify_with_openssl(chain.host.folder(), &key, b"hello", signature);

    // Requests that bypass the gate are refused.
    let direct = format!("http://{}/sign", chain.host.addr());
    let request = postern_testbed::http::builder().build().unwrap().post(direct);
    let request = request.header("content-type", "application/json").body(PAYLOAD);
    assert_eq!(request.send().await.unwrap().status(), 401);

    // Without the KMS proxy nothing is signed and the host is not ready. It recovers once the proxy is back.
    chain.kms.kill();
    let (status, response) = chain.sign("Service").await;
    assert_eq!((status, &response["code"]), (503, &json!("signing_unavailable")));
    let not_ready = chain.host.admin("GET", "/readyz").unwrap_err().to_string();
    assert!(
        not_ready.contains("503") && not_ready.contains("signing"),
        "{not_ready}"
    );
    chain.kms.restart().unwrap();
    chain.sign_until(200).await;
    assert!(chain.host.admin("GET", "/readyz").is_ok());

    chain.host.stop().unwrap();
    chain.assert_log_verifies();
    let signed = chain.records("signature");
    let failed: Vec<_> = signed
        .iter()
        .filter(|record| record["decision"] == "failed")
        .collect();
    assert_eq!(failed[0]["reason"], "unreachable");
    assert_eq!(
        (&signed[0]["subject"], &signed[0]["signer_id"]),
        (&json!("ann"), &json!(SIGNER))
    );
    let admitted = chain.records("admission");
    assert_eq!(
        (
            &admitted[0]["rule"],
            &admitted[0]["subject"],
            &admitted[0]["path"]
        ),
        (&json!("sign"), &json!("ann"), &json!("/kernel/sign"))
    );
    // The admission and the signature belong to the same request.
    assert_eq!(admitted[0]["request_id"], signed[0]["request_id"]);
    chain.fixture.assert_healthy("signing");
}

/// Sends sequential requests until `stop` is set, and collects the ids of those that were released.
async fn load(base: String, path: &'static str, stop: Arc<AtomicBool>, released: Arc<Mutex<Vec<String>>>) {
    let client = client(Version::Http1);
    while !stop.load(Ordering::Acquire) {
        let response = Request::get(path).send_to(&client, &base).await.unwrap();
        match response.status {
            // The sample API describes the request in its response.
            200 => {
                let received: Value = serde_json::from_slice(&response.body).unwrap();
                let id = received["headers"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .find(|field| field[0] == "x-request-id");
                released
                    .lock()
                    .unwrap()
                    .push(id.unwrap()[1].as_str().unwrap().to_owned());
            }
            503 => tokio::time::sleep(Duration::from_millis(5)).await,
            status => panic!("{status}: {:?}", String::from_utf8_lossy(&response.body)),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn released_requests_are_on_record_whenever_the_host_is_killed() {
    let mut chain = Chain::start();
    let (stop, required, optional) =
        <(Arc<AtomicBool>, Arc<Mutex<Vec<String>>>, Arc<Mutex<Vec<String>>>)>::default();
    let base = chain.fixture.envoy.url("");
    let mut running = Vec::new();
    for _ in 0..4 {
        running.push(tokio::spawn(load(
            base.clone(),
            "/required",
            Arc::clone(&stop),
            Arc::clone(&required),
        )));
    }
    running.push(tokio::spawn(load(
        base.clone(),
        "/optional",
        Arc::clone(&stop),
        Arc::clone(&optional),
    )));
    for round in 0..8_u64 {
        // Of varying length, to avoid a fixed phase.
        tokio::time::sleep(Duration::from_millis(100 + 37 * round)).await;
        chain.host.kill();
        tokio::time::sleep(Duration::from_millis(50)).await;
        tokio::task::block_in_place(|| chain.host.restart()).unwrap_or_else(|error| panic!("{error}"));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    stop.store(true, Ordering::Release);
    for task in running {
        task.await.unwrap();
    }
    let (required, optional) = (required.lock().unwrap().clone(), optional.lock().unwrap().clone());
    // After a failure, gates deliver buffered events with a delay of seconds.
    let waited = Instant::now();
    while chain.request_ids("request", "optional").len() < optional.len()
        && waited.elapsed() < Duration::from_secs(30)
    {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    tokio::task::block_in_place(|| chain.host.stop()).unwrap();
    chain.assert_log_verifies();

    assert!(
        required.len() > 50 && optional.len() > 50,
        "{} {}",
        required.len(),
        optional.len()
    );
    let admitted: BTreeSet<_> = chain.request_ids("admission", "required").into_iter().collect();
    let missing: Vec<_> = required.iter().filter(|id| !admitted.contains(*id)).collect();
    assert!(missing.is_empty(), "released, and not on record: {missing:?}");
    // The events of other rules wait in the gate while the host is down, and each is recorded once.
    let in_log = chain.request_ids("request", "optional");
    let unique: BTreeSet<_> = in_log.iter().collect();
    assert_eq!(unique.len(), in_log.len(), "recorded twice");
    let missing: Vec<_> = optional.iter().filter(|id| !unique.contains(id)).collect();
    assert!(
        missing.is_empty(),
        "{} of {} lost: {missing:?}",
        missing.len(),
        optional.len()
    );
    println!(
        "{} required and {} other requests released, 8 kills",
        required.len(),
        optional.len()
    );
}

#[tokio::test]
async fn tampering_with_the_log_is_detected() {
    let mut chain = Chain::start();
    let client = client(Version::Http1);
    for _ in 0..20 {
        assert_eq!(
            Request::get("/required")
                .send(&client, &chain.fixture)
                .await
                .status,
            200
        );
    }
    chain.host.stop().unwrap();
    chain.assert_log_verifies();
    let records = chain.records("admission");
    let seq = records[5]["seq"].as_u64().unwrap();
    let database = chain.host.folder().join("audit.db");
    let wal = std::fs::metadata(database.with_extension("db-wal")).map_or(0, |found| found.len());
    assert_eq!(wal, 0, "the whole log is in the database file");
    let mut bytes = std::fs::read(&database).unwrap();
    let payload = serde_json::to_string(&records[5]["id"]).unwrap();
    let id = payload.as_bytes();
    // Every occurrence, as a free page may contain a copy.
    let places: Vec<_> = (0..bytes.len() - id.len())
        .filter(|at| bytes[*at..].starts_with(id))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + 1] = if bytes[at + 1] == b'0' { b'1' } else { b'0' };
    }
    std::fs::write(&database, bytes).unwrap();
    let verified = chain.postern(&[
        "audit",
        "verify",
        "--store",
        "sqlite:audit.db",
        "--signers",
        "signers.toml",
    ]);
    let output = format!(
        "{}{}",
        String::from_utf8_lossy(&verified.stdout),
        String::from_utf8_lossy(&verified.stderr)
    );
    assert_eq!(verified.status.code(), Some(2), "{output}");
    assert!(output.contains(&format!("{seq}")), "{seq}: {output}");
}

/// Prints the latency that `audit: required` adds to a request. Asserts nothing about it.
#[tokio::test]
async fn the_latency_of_required_audit_is_printed() {
    let chain = Chain::start();
    let client = client(Version::Http1);
    let mut medians = Vec::new();
    for path in ["/optional", "/required", "/optional", "/required"] {
        let mut times = Vec::new();
        for _ in 0..300 {
            let started = Instant::now();
            assert_eq!(Request::get(path).send(&client, &chain.fixture).await.status, 200);
            times.push(started.elapsed());
        }
        times.sort();
        medians.push((path, times[150]));
    }
    println!("p50 {medians:?}");
}
