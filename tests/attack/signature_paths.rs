//! The decision on a token must not depend on which code verifies the signature: natively, in the VM with the proxy's
//! cryptography and in the VM without it, every token gets the same decision. Nor may it depend on the algorithm, or one
//! algorithm would admit what another refuses.

use std::collections::BTreeMap;
use std::time::Duration;

use postern_e2e::{Fixture, Http2Connection, Setup};
use postern_gate::ports::memory::{ManualClock, MemoryState};
use postern_gate::ports::{Observation, Observer, Ports, PureRust};
use postern_gate::{Gate, Request, Secret, Step, Tables, config};
use postern_testbed::idp::Alg;
use postern_testbed::keys::KeySet;
use postern_testbed::tokens;
use serde_json::{Value, json};

use crate::token_generator::{KeyPairs, TokenGenerator};

const TOKENS: usize = 100_000;
/// Tokens on one connection.
const STREAMS: usize = 200;
const SECRET: &str = "a-shared-secret-of-thirty-two-bytes!";

/// Lets the filter call everything except the proxy's foreign functions, so that it verifies all signatures in the VM.
const NO_FOREIGN_FUNCTIONS: &str = "capability_restriction_config: {allowed_capabilities: { \
                  proxy_log: {}, proxy_get_current_time_nanoseconds: {}, proxy_set_tick_period_milliseconds: {}, \
                  proxy_get_buffer_bytes: {}, proxy_get_header_map_pairs: {}, proxy_get_header_map_value: {}, \
                  proxy_set_header_map_pairs: {}, proxy_replace_header_map_value: {}, proxy_add_header_map_value: {}, \
                  proxy_remove_header_map_value: {}, proxy_get_shared_data: {}, proxy_set_shared_data: {}, \
                  proxy_get_property: {}, proxy_send_local_response: {}, proxy_continue_stream: {}, \
                  proxy_http_call: {}, proxy_grpc_call: {}, proxy_define_metric: {}, proxy_increment_metric: {}, \
                  proxy_set_effective_context: {}, clock_time_get: {}, random_get: {}, environ_get: {}, \
                  environ_sizes_get: {}, fd_write: {}, proc_exit: {}, proxy_on_memory_allocate: {}, \
                  malloc: {}, _initialize: {}, proxy_abi_version_0_2_1: {}, proxy_on_context_create: {}, \
                  proxy_on_vm_start: {}, proxy_on_configure: {}, proxy_on_tick: {}, proxy_on_done: {}, \
                  proxy_on_delete: {}, proxy_on_log: {}, proxy_on_request_headers: {}, proxy_on_request_body: {}, \
                  proxy_on_request_trailers: {}, proxy_on_response_headers: {}, proxy_on_http_call_response: {}, \
                  proxy_on_grpc_receive: {}, proxy_on_grpc_close: {}}}";

fn gate(keys: &KeyPairs) -> Value {
    let common = json!({"audiences": ["api", "api2"], "headers": {"X-Plan": "plan"}});
    let issuer = |members: Value| {
        let mut issuer = common.clone();
        issuer
            .as_object_mut()
            .unwrap()
            .extend(members.as_object().unwrap().clone());
        issuer
    };
    json!({
        "issuers": {
            "keyed": issuer(json!({
                "issuer": "https://keyed.example", "algorithms": ["RS256", "PS256", "ES256", "EdDSA"],
                "jwks": {"inline": keys.jwks()},
            })),
            "shared": issuer(json!({
                "issuer": "https://shared.example", "algorithms": ["HS256"], "secret": {"env": "SHARED_SECRET"},
            })),
        },
        "rules": [{"name": "all", "authenticate": {"any": ["issuers/keyed", "issuers/shared"]}}],
    })
}

struct NoObserver;

impl Observer for NoObserver {
    fn observe(&self, _: &Observation<'_>) {}
}

/// The gate as native code.
struct NativeGate {
    gate: Gate,
    tables: Tables,
    clock: ManualClock,
    state: MemoryState,
}

impl NativeGate {
    fn new(config: &Value) -> Self {
        let text = config.to_string();
        let config = config::from_json(text.as_bytes()).unwrap();
        let gate = Gate::compile(&config, &|_: &str| Some(Secret::new(SECRET))).unwrap();
        let state = MemoryState::default();
        Self {
            tables: gate.open_tables(&state, [0; 16]),
            gate,
            clock: ManualClock::at(Duration::from_secs(tokens::now().unsigned_abs())),
            state,
        }
    }

    fn decide(&self, token: &str) -> &'static str {
        let bearer = format!("Bearer {token}");
        let headers = [
            (&b":method"[..], &b"GET"[..]),
            (b":path", b"/direct/x"),
            (b":authority", b"a"),
            (b"authorization", bearer.as_bytes()),
        ];
        let ports = Ports {
            clock: &self.clock,
            state: &self.state,
            verifier: &PureRust,
            observer: &NoObserver,
        };
        let request = Request {
            headers: &headers,
            source: None,
            end_of_stream: true,
        };
        match self.gate.begin(&request, &self.tables, &ports) {
            Step::Continue(_) => "admitted",
            Step::Deny(denial) => denial.reason.name(),
            Step::Need(need) => panic!("{need:?} is needed"),
        }
    }
}

async fn assert_same_decisions(fixture: &Fixture, tokens: &[String], decisions: &[&str]) {
    for (tokens, decisions) in tokens.chunks(STREAMS).zip(decisions.chunks(STREAMS)) {
        let mut streams = Http2Connection::open(fixture.envoy.addr()).await;
        streams.get("/direct/x", tokens).await;
        let responses = streams.admitted_each().await;
        for ((token, decision), admitted) in tokens.iter().zip(decisions).zip(responses) {
            assert_eq!(*decision == "admitted", admitted, "natively {decision}: {token}");
        }
    }
    let mut counts = BTreeMap::new();
    for decision in decisions {
        *counts.entry(format!("all.{decision}")).or_insert(0) += 1;
    }
    for (name, count) in &counts {
        fixture.expect_count(name, *count);
    }
    assert_eq!(fixture.decision_counts(), counts);
    fixture.assert_healthy("tokens");
}

#[tokio::test]
async fn every_token_gets_the_same_decision_whoever_verifies_it() {
    let keys = KeyPairs::new(SECRET);
    let gate = gate(&keys);
    let native = NativeGate::new(&gate);
    let mut generator = TokenGenerator::new(&keys, tokens::now());
    let generated: Vec<String> = (0..TOKENS).map(|_| generator.token()).collect();
    let decisions: Vec<&str> = generated.iter().map(|token| native.decide(token)).collect();
    let admitted = decisions
        .iter()
        .filter(|decision| **decision == "admitted")
        .count();
    assert!(
        admitted > TOKENS / 20 && admitted < TOKENS / 2,
        "{admitted} admitted: too few tokens on one side"
    );
    let setup = Setup::new(gate).workers(2).env("SHARED_SECRET", SECRET);
    let by_proxy = setup.clone().start();
    assert!(by_proxy.envoy.log().contains("are verified by the proxy"));
    assert_same_decisions(&by_proxy, &generated, &decisions).await;
    drop(by_proxy);
    let in_vm = setup
        .replace(
            "vm_config:\n",
            format!("{NO_FOREIGN_FUNCTIONS}\n      vm_config:\n"),
        )
        .start();
    assert!(
        in_vm
            .envoy
            .log()
            .contains("all signatures are verified in the VM")
    );
    assert_same_decisions(&in_vm, &generated, &decisions).await;
}

/// Claims that one algorithm once accepted and another refused.
#[tokio::test]
async fn claims_of_another_type_are_refused_for_every_algorithm() {
    let keys = KeySet::generate().unwrap();
    let jwks: Value = serde_json::from_str(&keys.jwks_json()).unwrap();
    let fixture = Setup::new(json!({
        "issuers": {"main": {
            "issuer": "i", "audiences": ["a"], "algorithms": Alg::ALL.map(Alg::name), "jwks": {"inline": jwks},
        }},
        "rules": [{"name": "all", "authenticate": {"any": ["issuers/main"]}}],
    }))
    .start();
    let mut refused = 0;
    for alg in Alg::ALL {
        let valid = tokens::claims("i", "a", "alice", 3600);
        let mut tokens = vec![keys.mint(alg, &valid)];
        for (name, value) in [
            ("sub", json!(12345)),
            ("sub", json!(true)),
            ("sub", json!(null)),
            ("jti", json!(1)),
            ("aud", json!(["a", 7])),
            ("iss", json!(["i"])),
        ] {
            let mut claims = valid.clone();
            claims[name] = value;
            tokens.push(keys.mint(alg, &claims));
        }
        let mut streams = Http2Connection::open(fixture.envoy.addr()).await;
        streams.get("/direct/x", &tokens).await;
        let decisions = streams.admitted_each().await;
        let expected: Vec<bool> = (0..tokens.len()).map(|n| n == 0).collect();
        assert_eq!(decisions, expected, "{}", alg.name());
        refused += tokens.len() as u64 - 1;
    }
    fixture.expect_count("all.token_malformed", refused);
}
