//! An older manifest, signed as it is, in the place of the one that was taken.

use std::path::Path;
use std::process::{Command, Output};

use postern_testbed::modules;
use postern_testbed::policy_host::{PolicyHost, binary};
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
    std::fs::write(folder.join("a.wasm"), modules::denier(code).unwrap()).unwrap();
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

fn served(host: &PolicyHost) -> Value {
    let status: Value = serde_json::from_str(&host.admin("GET", "/v1/policies/a").unwrap()).unwrap();
    status["digest"].clone()
}

#[test]
fn an_older_manifest_is_not_taken_until_it_is_signed_anew() {
    let author = tempfile::tempdir().unwrap();
    let author = author.path();
    let made = postern(author, &["policy", "keygen", "ann.pem", "--json"]);
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let policies = json!({"manifest": "manifest.json", "signers": {"ann": made["public_key"]}, "state": "state",
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
    let wanted = served(&host);
    for (name, bytes) in &first {
        host.install(name, bytes).unwrap();
    }
    let refused = host.admin("POST", "/v1/policies/reload").unwrap_err().to_string();
    assert!(
        refused.contains("an older manifest is not taken again"),
        "{refused}"
    );
    assert_eq!(served(&host), wanted);

    // Nor by a host that starts anew.
    host.kill();
    assert!(
        host.restart_unready()
            .unwrap()
            .contains("an older manifest is not taken again")
    );
    host.kill();

    // Its authors may go back.
    for (name, bytes) in &first {
        std::fs::write(author.join(name), bytes).unwrap();
    }
    release(author, "first", &["--renew"]);
    host.install("manifest.json", &read("manifest.json")).unwrap();
    host.restart().unwrap();
    assert_ne!(served(&host), wanted);
}
