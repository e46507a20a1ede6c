#![allow(clippy::unwrap_used)]
use postern_e2e::Setup;
use serde_json::json;
use std::panic::catch_unwind;
#[test]
fn t() {
    let open = json!([{"name": "open", "open": true}]);
    for gate in [
        json!({"api_keys": {"agents": {"keys": [{"id": "ci", "digest": "plain"}]}}, "rules": open}),
        json!({"signatures": {"hook": {"scheme": "github", "secrets": ["plain"]}}, "rules": open}),
        json!({"signatures": {"hook": {"scheme": "github", "secrets": [{"env": 1}]}}, "rules": open}),
        json!({"signatures": {"hook": {"scheme": "keyed", "header_prefix": "x-", "keys": ["plain"]}}, "rules": open}),
        json!({"signatures": {"hook": {"scheme": "github", "secrets": "plain"}}, "rules": open}),
        json!({"limits": {"l": "x"}, "rules": open}),
        json!({"limits": {"l": {"quota": "x", "window": "1s", "key": ["address"]}}, "rules": open}),
        json!({"limits": {"l": {"quota": 5, "window": "zz", "key": ["address"]}}, "rules": open}),
        json!({"limits": {"l": {"quota": 5, "window": "1s", "key": "address"}}, "rules": open}),
        json!({"issuers": {"i": {"issuer": 1, "audiences": "a", "algorithms": ["none"]}}, "rules": open}),
        json!({"issuers": {"i": {"issuer": "i", "audiences": ["a"], "algorithms": ["none"], "secret": {"env": "X"}}}, "rules": open}),
        json!({"issuers": {"i": "x"}, "rules": open}),
        json!({"signatures": {"hook": {"scheme": "nope"}}, "rules": open}),
        json!({"rules": [{"name": "a", "authenticate": {"any": "x"}}]}),
        json!({"rules": ["x"]}),
    ] {
        let text = gate.to_string();
        let r = catch_unwind(|| Setup::new(gate).env("X", "").refused("x"));
        match r { Ok(log) => println!("REFUSED {text}\n   {}", log.lines().filter(|l| l.contains("refused")).next().unwrap_or("?")), Err(_) => println!("TAKEN   {text}") }
    }
}
