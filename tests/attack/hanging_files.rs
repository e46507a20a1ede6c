//! Files that never answer: a FIFO where a module should be, in a host that serves.

use std::process::Command;
use std::time::{Duration, Instant};

use postern_testbed::modules;
use postern_testbed::policy_host::{PolicyHost, binary};
use serde_json::json;

fn fifo(host: &PolicyHost, name: &str) {
    let path = host.folder().join(name);
    let _ = std::fs::remove_file(&path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_fifo_stalls_neither_reloads_nor_the_end() {
    let entries = json!({"entries": {"a": {"file": "a.wasm"}, "b": {"file": "b.wasm"}}});
    let mut host = PolicyHost::start(binary().unwrap(), &entries, |folder| {
        for name in ["a.wasm", "b.wasm"] {
            std::fs::write(folder.join(name), modules::denier("first").unwrap())?;
        }
        Ok(())
    })
    .unwrap();
    fifo(&host, "a.wasm");
    host.install("b.wasm", &modules::denier("second").unwrap())
        .unwrap();
    let started = Instant::now();
    let refused = host.admin("POST", "/v1/policies/reload").unwrap_err().to_string();
    assert!(
        refused.contains("422") && refused.contains("is no regular file"),
        "{refused}"
    );
    assert!(host.admin("GET", "/readyz").is_ok(), "both serve");
    assert!(host.log().contains("\"swapped\""), "the other one is loaded");

    // The settings themselves, by SIGHUP, and then the end.
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
fn a_request_that_never_ends_does_not_keep_a_host_from_its_end() {
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
