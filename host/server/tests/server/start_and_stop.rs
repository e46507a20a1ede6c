//! Sockets, strict mode, and a stop that loses no request.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use crate::support::{
    WorkDir, allowing_module, check, connect, decide, denying_module, get, looping_module, wait_for_decision,
};
use ed25519_compact::{KeyPair, Seed};
use postern_policy::{Digest, Manifest};
use postern_serve::ListenError;
use postern_server::{StartError, inspect};

const YES: &str = "listen: ['unix:host.sock']\npolicies: {entries: {'yes': {file: yes.wasm}}}";

fn dir() -> WorkDir {
    let dir = WorkDir::new();
    dir.file("yes.wasm", &allowing_module());
    dir
}

#[tokio::test]
async fn a_socket_is_limited_to_user_and_group_and_removed_at_exit() {
    let dir = dir();
    let host = dir.try_start(YES).await.unwrap();
    let mode = std::fs::metadata(dir.path("host.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    assert!(matches!(
        dir.try_start(YES).await,
        Err(StartError::Listen(ListenError::InUse(_)))
    ));
    assert_eq!(
        decide(&mut connect(&host.addresses()[0]).await, check("yes", "GET", "/")).await,
        "allowed",
        "the socket still serves"
    );
    host.stop().await.unwrap();
    assert!(!dir.path("host.sock").exists());
    let left: Vec<_> = std::fs::read_dir(dir.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["yes.wasm"]);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_nothing_else() {
    let dir = dir();
    drop(UnixListener::bind(dir.path("host.sock")).unwrap());
    let host = dir.try_start(YES).await.unwrap();
    assert_eq!(
        decide(&mut connect(&host.addresses()[0]).await, check("yes", "GET", "/")).await,
        "allowed"
    );
    // A socket of another process that has replaced it stays.
    std::fs::remove_file(dir.path("host.sock")).unwrap();
    let _other = UnixListener::bind(dir.path("host.sock")).unwrap();
    host.stop().await.unwrap();
    assert!(dir.path("host.sock").exists());

    std::fs::remove_file(dir.path("host.sock")).unwrap();
    dir.file("host.sock", b"precious");
    let error = dir.try_start(YES).await.unwrap_err();
    assert!(
        matches!(error, StartError::Listen(ListenError::NotASocket(_))),
        "{error}"
    );
    assert_eq!(std::fs::read(dir.path("host.sock")).unwrap(), b"precious");
    assert!(
        dir.try_start("listen: ['unix:no/where.sock']\npolicies: {entries: {'yes': {file: yes.wasm}}}")
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn requests_in_progress_are_finished() {
    let dir = dir();
    dir.file("spin.wasm", &looping_module());
    let host = dir
        .start("{entries: {spin: {file: spin.wasm, deadline: 400ms}}}")
        .await;
    let mut client = connect(&host.addresses()[0]).await;
    let pending = tokio::spawn(async move { decide(&mut client, check("spin", "GET", "/")).await });
    while !get(&host, "/metrics")
        .await
        .body
        .contains("postern_checks_in_flight 1")
    {
        assert!(!pending.is_finished(), "the check is still running");
    }
    let started = Instant::now();
    host.stop().await.unwrap();
    assert_eq!(pending.await.unwrap(), "failed 13");
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "{:?}",
        started.elapsed()
    );
}

/// Writes a manifest of `a.wasm`, signed.
fn sign(dir: &WorkDir, module: &[u8], key: &KeyPair) {
    let digest = Digest::of(module);
    let text = format!(r#"{{"version": 1, "modules": {{"a": {{"file": "a.wasm", "digest": "{digest}"}}}}}}"#);
    let mut manifest = Manifest::parse(text.as_bytes()).unwrap();
    manifest.sign("ann", &key.sk).unwrap();
    dir.file("a.wasm", module);
    dir.file("manifest.json", &serde_json::to_vec(&manifest).unwrap());
}

fn signed(tamper: &str) -> String {
    // The public key of the seed of 32 bytes of value 1.
    let key = "ed25519:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=";
    format!(
        "listen: ['unix:host.sock']\nadmin: {{listen: 'unix:admin.sock'}}\npolicies: {{manifest: manifest.json, \
         signers: {{ann: '{key}'}}, watch: false, tamper: {tamper}, entries: {{a: {{module: a}}, b: {{module: a}}}}}}"
    )
}

#[tokio::test]
async fn a_strict_host_starts_with_all_policies_or_not_at_all() {
    let dir = WorkDir::new();
    let key = KeyPair::from_seed(Seed::new([1; 32]));
    sign(&dir, &denying_module("first"), &key);
    let strict = signed("{strict: true, interval: 1s}");
    let host = dir
        .try_start(&strict)
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let mut client = connect(&host.addresses()[0]).await;
    assert_eq!(get(&host, "/readyz").await.status, 200);

    // A file changes: the verified module keeps serving, and the host reports the change.
    let module = std::fs::read(dir.path("a.wasm")).unwrap();
    dir.file("a.wasm", &denying_module("evil"));
    let mut ready = get(&host, "/readyz").await;
    while ready.status == 200 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        ready = get(&host, "/readyz").await;
    }
    assert!(
        ready.json()["faults"]["a"]
            .as_str()
            .unwrap()
            .contains("should be"),
        "{ready:?}"
    );
    assert_eq!(
        decide(&mut client, check("a", "GET", "/")).await,
        "denied 403 first"
    );
    host.stop().await.unwrap();

    let error = dir.try_start(&strict).await.unwrap_err();
    let StartError::Strict(errors) = &error else {
        panic!("{error}")
    };
    assert_eq!(errors.keys().collect::<Vec<_>>(), ["a", "b"], "all of them");
    assert!(error.to_string().contains("should be sha256:"), "{error}");
    let inspection = inspect(&dir.settings(&strict)).await.unwrap();
    assert_eq!((inspection.errors.len(), inspection.policies.len()), (2, 2));
    assert!(
        !dir.path("host.sock").exists(),
        "a host that does not start leaves no socket"
    );

    dir.file("a.wasm", &module);
    let inspection = inspect(&dir.settings(&strict)).await.unwrap();
    assert!(inspection.errors.is_empty());
    assert_eq!(inspection.policies[0].signers, ["ann"]);
}

#[tokio::test]
async fn without_strict_mode_a_change_is_reported_and_the_host_stays_ready() {
    let dir = WorkDir::new();
    let key = KeyPair::from_seed(Seed::new([1; 32]));
    sign(&dir, &denying_module("first"), &key);
    let host = dir
        .try_start(&signed("{check: true, interval: 1s}"))
        .await
        .unwrap();
    dir.file("a.wasm", &denying_module("evil"));
    while !get(&host, "/metrics")
        .await
        .body
        .contains(r#"postern_policy_fault{policy="a"} 1"#)
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(get(&host, "/readyz").await.status, 200);
    sign(&dir, &denying_module("second"), &key);
    let mut client = connect(&host.addresses()[0]).await;
    crate::support::http(host.admin().unwrap(), "POST", "/v1/policies/reload", None)
        .await
        .unwrap();
    wait_for_decision(&mut client, &check("a", "GET", "/"), "denied 403 second").await;
    assert!(
        get(&host, "/readyz").await.json()["faults"]
            .as_object()
            .unwrap()
            .is_empty()
    );
    host.stop().await.unwrap();
}
