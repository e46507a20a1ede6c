//! Replay of an older, validly signed manifest in place of the current one.

use std::path::Path;
use std::process::{Command, Output};

use postern_testbed::policy_host::{PolicyHost, binary};
use postern_testbed::text_modules;
use serde_json::{Value, json};

fn postern(folder: &Path, args: &[&str]) -> Output {
    let output = Command::new(binary().unwrap())
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    output
}

/// Signs a manifest of one module that denies with this code.
fn release(folder: &Path, code: &str, more: &[&str]) {
    std::fs::write(folder.join("a.wasm"), text_modules::denying_module(code).unwrap()).unwrap();
    let sign = [
        "policy",
        "sign",
        "manifest.json",
        "--key",
        "ann.pem",
        "--signer",
        "ann",
        "--add",
        "a=a.wasm",
    ];
    postern(folder, &[&sign[..], more].concat());
}

fn served_digest(host: &PolicyHost) -> Value {
    let status: Value = serde_json::from_str(&host.admin("GET", "/v1/policies/a").unwrap()).unwrap();
    status["digest"].clone()
}

#[test]
fn an_older_manifest_is_rejected_until_it_is_signed_again() {
    let author = tempfile::tempdir().unwrap();
    let author = author.path();
    let generated = postern(author, &["policy", "keygen", "ann.pem", "--json"]);
    let generated: Value = serde_json::from_slice(&generated.stdout).unwrap();
    let policies = json!({"manifest": "manifest.json", "signers": {"ann": generated["public_key"]}, "state": "state",
        "watch": false, "entries": {"a": {"module": "a"}}});
    release(author, "first", &[]);
    let read = |name: &str| std::fs::read(author.join(name)).unwrap();
    let first = [
        ("manifest.json", read("manifest.json")),
        ("a.wasm", read("a.wasm")),
    ];
    release(author, "second", &[]);
    let second = [
        ("manifest.json", read("manifest.json")),
        ("a.wasm", read("a.wasm")),
    ];

    let mut host = PolicyHost::start(binary().unwrap(), &policies, |folder| {
        second
            .iter()
            .try_for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes))
    })
    .unwrap();
    let current = served_digest(&host);
    for (name, bytes) in &first {
        host.install(name, bytes).unwrap();
    }
    let refused = host.admin("POST", "/v1/policies/reload").unwrap_err().to_string();
    assert!(refused.contains("an older manifest is rejected"), "{refused}");
    assert_eq!(served_digest(&host), current);

    // A restarted host rejects it too.
    host.kill();
    assert!(
        host.restart_not_ready()
            .unwrap()
            .contains("an older manifest is rejected")
    );
    host.kill();

    // Its authors may return to it with `--renew`.
    for (name, bytes) in &first {
        std::fs::write(author.join(name), bytes).unwrap();
    }
    release(author, "first", &["--renew"]);
    host.install("manifest.json", &read("manifest.json")).unwrap();
    host.restart().unwrap();
    assert_ne!(served_digest(&host), current);
}
