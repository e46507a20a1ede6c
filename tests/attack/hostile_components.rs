//! Small components for which the compiler needs gigabytes.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use postern_testbed::policy_host::{PolicyHost, binary};
use postern_testbed::text_modules;
use serde_json::json;

fn nested_instances(levels: usize, innermost: &str) -> Vec<u8> {
    wat::parse_str(text_modules::nested_instances(levels, innermost)).unwrap()
}

const CORE: &str = "(core module $m (func (export \"f\"))) (core instance (instantiate $m))";

fn inspect(folder: &Path, wasm: &[u8]) -> (Output, Duration) {
    std::fs::write(folder.join("m.wasm"), wasm).unwrap();
    let started = Instant::now();
    // In KiB: twice the memory limit of the compiler's process.
    let output = Command::new("sh")
        .arg("-c")
        .arg("ulimit -d 2097152; exec \"$0\" policy inspect m.wasm")
        .arg(binary().unwrap())
        .current_dir(folder)
        .output()
        .unwrap();
    (output, started.elapsed())
}

#[test]
fn nested_instances_are_rejected_before_compilation() {
    let folder = tempfile::tempdir().unwrap();
    for (wasm, what) in [
        (
            nested_instances(24, CORE),
            "instances of core modules; the limit is 16",
        ),
        (
            nested_instances(60, CORE),
            "instances of core modules; the limit is 16",
        ),
        (
            nested_instances(24, ""),
            "instances of components; the limit is 1024",
        ),
    ] {
        assert!(wasm.len() < 10_000);
        let (output, took) = inspect(folder.path(), &wasm);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(3) && err.contains(what),
            "{output:?}"
        );
        assert!(took < Duration::from_secs(30), "{took:?}");
    }
}

#[test]
fn a_host_rejects_nested_instances_and_keeps_serving() {
    let entries = json!({"entries": {"good": {"file": "good.wasm"}, "bad": {"file": "bad.wasm"}}});
    let good = text_modules::denying_module("no").unwrap();
    let host = PolicyHost::start(binary().unwrap(), &entries, |folder| {
        std::fs::write(folder.join("good.wasm"), &good)?;
        std::fs::write(folder.join("bad.wasm"), &good)
    })
    .unwrap();
    host.install("bad.wasm", &nested_instances(40, CORE)).unwrap();
    let started = Instant::now();
    let refused = host.admin("POST", "/v1/policies/reload").unwrap_err().to_string();
    assert!(refused.contains("instances of core modules"), "{refused}");
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(host.admin("GET", "/readyz").is_ok());
}

/// A component within all size limits that is expensive to compile: a function of fifty kilobytes with a thousand nested
/// loops, all of which change five thousand variables.
fn expensive_component() -> Vec<u8> {
    let locals = "i32 ".repeat(5000);
    let mut changes = String::new();
    for i in 0..5000 {
        let source = i * 3 % 5000;
        let _ = write!(
            changes,
            "(local.set {i} (i32.add (local.get {source}) (i32.const 1)))"
        );
    }
    let (begin, end) = ("(loop ".repeat(1000), "(br_if 0 (local.get 0)))".repeat(1000));
    let text = format!("(component (core module (func (local {locals}) {begin}{changes}{end})))");
    wat::parse_str(text).unwrap()
}

#[test]
fn an_expensive_compilation_is_stopped_in_its_own_process() {
    let folder = tempfile::tempdir().unwrap();
    let wasm = expensive_component();
    assert!(wasm.len() < 60_000);
    let (output, took) = inspect(folder.path(), &wasm);
    // The memory or the time limit, depending on the machine.
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(3) && err.contains("compiling the component took more than"),
        "{output:?}"
    );
    assert!(took < Duration::from_secs(120), "{took:?}");
}
