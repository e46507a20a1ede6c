//! Files whose reads block do not stall decisions, reloads or the stop of the host.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{
    WorkDir, allowing_module, check, connect, decide, denying_module, http, wait_for_decision,
};

fn fifo(dir: &WorkDir, name: &str) {
    let _ = std::fs::remove_file(dir.path(name));
    assert!(
        Command::new("mkfifo")
            .arg(dir.path(name))
            .status()
            .unwrap()
            .success()
    );
}

/// Runs the test on its own runtime, so that a stalled one fails the test and does not block its end.
fn in_time(test: impl Future<Output = ()> + Send + 'static) {
    let runtime = postern_server::runtime().unwrap();
    let ended =
        runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), tokio::spawn(test)).await });
    runtime.shutdown_background();
    ended.expect("the test stalls").unwrap();
}

#[test]
fn a_fifo_in_place_of_a_module_stalls_nothing_else() {
    in_time(async {
        let dir = WorkDir::new();
        dir.file("yes.wasm", &allowing_module());
        dir.file("changed.wasm", &denying_module("first"));
        fifo(&dir, "pipe.wasm");
        fifo(&dir, "cases.yaml");
        let host = dir
            .start(
                "{entries: {'yes': {file: yes.wasm}, changed: {file: changed.wasm}, pipe: {file: pipe.wasm}, \
                 tried: {file: yes.wasm, cases: cases.yaml}}}",
            )
            .await;
        let mut client = connect(&host.addresses()[0]).await;
        assert_eq!(decide(&mut client, check("yes", "GET", "/")).await, "allowed");
        assert!(
            decide(&mut client, check("pipe", "GET", "/"))
                .await
                .starts_with("failed")
        );

        // A module that serves is replaced by a FIFO, and another by a good one.
        fifo(&dir, "yes.wasm");
        dir.file("changed.wasm", &denying_module("second"));
        wait_for_decision(&mut client, &check("changed", "GET", "/"), "denied 403 second").await;
        assert_eq!(decide(&mut client, check("yes", "GET", "/")).await, "allowed");
        let admin = host.admin().unwrap();
        let report = http(admin, "POST", "/v1/policies/reload", None).await.unwrap();
        assert_eq!(report.status, 422);
        for entry in ["yes", "pipe", "tried"] {
            let reason = report.json()["policies"][entry]["reason"].to_string();
            assert!(reason.contains("is not a regular file"), "{entry}: {reason}");
        }
        let started = Instant::now();
        host.stop().await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn a_fifo_in_place_of_the_manifest_stalls_nothing_else() {
    in_time(async {
        let dir = WorkDir::new();
        fifo(&dir, "manifest.json");
        let key = "ed25519:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        let host = dir
            .start(&format!(
                "{{manifest: manifest.json, signers: {{ann: '{key}'}}, entries: {{a: {{module: a}}}}}}"
            ))
            .await;
        let mut client = connect(&host.addresses()[0]).await;
        assert!(
            decide(&mut client, check("a", "GET", "/"))
                .await
                .starts_with("failed")
        );
        let status = http(host.admin().unwrap(), "GET", "/v1/policies/a", None)
            .await
            .unwrap();
        assert!(status.body.contains("is not a regular file"), "{}", status.body);
        host.stop().await.unwrap();
    });
}
