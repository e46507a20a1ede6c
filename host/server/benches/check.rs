//! The latency of a check, over a Unix socket and one connection: `cargo xtask bench policy`.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what fails here ends the test"
)]

#[path = "../tests/server/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use support::{WorkDir, allowing_module, check, connect, decide, with_role};

/// The number of checks per policy.
const CHECKS: usize = 20_000;

fn main() {
    let dir = WorkDir::new();
    dir.file("yes.wasm", &allowing_module());
    dir.file("rbac.wasm", &support::shipped("rbac"));
    let rules = "[{methods: [POST], path: '/orders/{id}', roles: [Operator]}]";
    let rbac = format!("{{file: rbac.wasm, grants: [config, log], config: {{rules: {rules}}}}}");
    let host = postern_server::runtime().unwrap();
    let started = host.block_on(dir.start(&format!(
        "{{entries: {{'yes': {{file: yes.wasm}}, rbac: {rbac}}}}}"
    )));

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut client = connect(&started.addresses()[0]).await;
        for (name, request) in [
            ("allows everything", check("yes", "POST", "/orders/7")),
            ("rbac", with_role(check("rbac", "POST", "/orders/7"), "Operator")),
        ] {
            let mut times: Vec<Duration> = Vec::new();
            for _ in 0..CHECKS {
                let started = Instant::now();
                assert_eq!(decide(&mut client, request.clone()).await, "allowed");
                times.push(started.elapsed());
            }
            times.sort_unstable();
            let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
            println!(
                "check over a Unix socket, {name}: p50 {p50:?}, p99 {p99:?}, fastest {:?}",
                times[0]
            );
        }
    });
    host.block_on(started.stop()).unwrap();
}
