//! Reads that never complete: a FIFO in place of a module, and a request without an end.

use std::process::Command;
use std::time::{Duration, Instant};

use postern_testbed::policy_host::{PolicyHost, binary};
use postern_testbed::text_modules;
use serde_json::json;

fn fifo(host: &PolicyHost, name: &str) {
    let path = host.folder().join(name);
    let _ = std::fs::remove_file(&path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_fifo_blocks_neither_reloads_nor_the_shutdown() {
    let entries = json!({"entries": {"a": {"file": "a.wasm"}, "b": {"file": "b.wasm"}}});
    let mut host = PolicyHost::start(binary().unwrap(), &entries, |folder| {
        for name in ["a.wasm", "b.wasm"] {
            std::fs::write(folder.join(name), text_modules::denying_module("first").unwrap())?;
        }
        Ok(())
    })
    .unwrap();
    fifo(&host, "a.wasm");
    host.install("b.wasm", &text_modules::denying_module("second").unwrap())
        .unwrap();
    let started = Instant::now();
    let refused = host.admin("POST", "/v1/policies/reload").unwrap_err().to_string();
    assert!(
        refused.contains("422") && refused.contains("is not a regular file"),
        "{refused}"
    );
    assert!(host.admin("GET", "/readyz").is_ok(), "both entries serve");
    assert!(host.log().contains("\"swapped\""), "the other entry is loaded");

    // A reload of the settings by SIGHUP, then the shutdown.
    let settings = host.folder().join("host.yaml");
    std::fs::rename(&settings, host.folder().join("aside.yaml")).unwrap();
    fifo(&host, "host.yaml");
    host.signal("HUP").unwrap();
    host.stop().unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
    assert!(host.log().contains("\"stopped\""));
}

#[test]
fn an_incomplete_request_does_not_block_the_shutdown() {
    use std::io::Write as _;
    let settings = json!({"signing": {}, "audit": {"store": "sqlite:audit.db"}, "listen": [],
        "gate": {"token": {"env": "TOKEN"}}});
    let token = [("TOKEN", "a-token-of-more-than-16-bytes")];
    let mut host = PolicyHost::start_with(binary().unwrap(), &settings, &token, |_| Ok(())).unwrap();
    let mut stream = std::os::unix::net::UnixStream::connect(host.socket()).unwrap();
    let head =
        "POST /v1/audit HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{";
    stream.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    host.stop().unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(6),
        "{:?}",
        started.elapsed()
    );
}
