//! Benchmarks of gate decisions as native code, without a proxy.
#![allow(clippy::unwrap_used, reason = "a benchmark cannot run when its setup fails")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use postern_gate::ports::memory::{ManualClock, MemoryState};
use postern_gate::ports::{Observation, Observer, Ports, PureRust};
use postern_gate::{Gate, Header, Request, Step, config};
use postern_testbed::idp::Alg;
use postern_testbed::keys::KeySet;
use postern_testbed::sign::api_key_digest;
use postern_testbed::tokens;
use serde_json::json;

struct NoObserver;

impl Observer for NoObserver {
    fn observe(&self, _: &Observation<'_>) {}
}

fn gate(keys: &KeySet) -> Gate {
    let jwks: serde_json::Value = serde_json::from_str(&keys.jwks_json()).unwrap();
    let rules: Vec<_> = (0..50)
        .map(|i| json!({"name": format!("r{i}"), "match": {"path": {"template": format!("/v1/t{i}/{{id}}")}},
                        "authenticate": {"any": ["api_keys/agents"]}}))
        .chain([
            json!({"name": "key", "match": {"path": {"exact": "/key"}}, "authenticate": {"any": ["api_keys/agents"]}}),
            json!({"name": "limited", "match": {"path": {"exact": "/limited"}},
                   "authenticate": {"any": ["api_keys/agents"]}, "limits": ["big"]}),
            json!({"name": "token", "match": {"path": {"exact": "/token"}}, "authenticate": {"any": ["issuers/idp"]}}),
        ])
        .collect();
    let config = json!({
        "issuers": {"idp": {"issuer": "https://idp.example", "audiences": ["api"], "algorithms": ["RS256"],
                            "jwks": {"inline": jwks}}},
        "api_keys": {"agents": {"keys": [{"id": "ci", "digest": api_key_digest("bench-key")}]}},
        "limits": {"big": {"quota": 1_000_000_000, "window": "1s", "key": ["subject"]}},
        "rules": rules,
    });
    let config = config::from_value(config).unwrap();
    Gate::compile(&config, &|_: &str| None).unwrap()
}

fn bench(c: &mut Criterion) {
    let keys = KeySet::generate().unwrap();
    let gate = gate(&keys);
    let state = MemoryState::default();
    let tables = gate.open_tables(&state, [7; 16]);
    let clock = ManualClock::at(Duration::from_secs(
        u64::try_from(tokens::now()).unwrap_or_default(),
    ));
    let ports = Ports {
        clock: &clock,
        state: &state,
        verifier: &PureRust,
        observer: &NoObserver,
    };
    let token = keys.mint(
        Alg::Rs256,
        &tokens::claims("https://idp.example", "api", "alice", 86_400),
    );
    let bearer = format!("Bearer {token}");
    let mut head: Vec<Header<'_>> = vec![
        (b":method", b"GET"),
        (b":authority", b"api.example"),
        (b":scheme", b"https"),
        (b"user-agent", b"bench/1.0"),
        (b"accept", b"*/*"),
        (b"x-forwarded-for", b"198.51.100.7"),
        (b"x-forwarded-proto", b"https"),
        (b"x-request-id", b"5f1d3a7c-9be0-4d21-8d3f-000000000000"),
        (b"x-api-key", b"bench-key"),
        (b"authorization", bearer.as_bytes()),
    ];
    for (name, path) in [
        ("refused: no rule", "/none"),
        ("API key", "/key"),
        ("API key and limit", "/limited"),
        ("cached token", "/token"),
        ("52 templates", "/v1/t49/7"),
    ] {
        head.truncate(10);
        head.push((b":path", path.as_bytes()));
        let request = Request {
            headers: &head,
            source: None,
            end_of_stream: true,
        };
        assert_eq!(
            matches!(gate.begin(&request, &tables, &ports), Step::Continue(_)),
            path != "/none",
            "{name}"
        );
        c.bench_function(name, |b| {
            b.iter(|| gate.begin(black_box(&request), &tables, &ports))
        });
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
