//! A verdict on a token that depends on its algorithm, or on who verifies the signature: what one path refuses, another
//! admits. Natively, in the VM with the proxy's cryptography and in the VM without it, every token must come to the same.

use std::collections::BTreeMap;
use std::time::Duration;

use postern_e2e::{Fixture, Setup, Streams};
use postern_gate::ports::memory::{ManualClock, MemoryState};
use postern_gate::ports::{Observation, Observer, Ports, PureRust};
use postern_gate::{Gate, Request, Secret, Step, Tables, config};
use postern_testbed::idp::Alg;
use postern_testbed::keys::KeySet;
use postern_testbed::tokens;
use serde_json::{Value, json};

use crate::generated::{Generator, Signers};

const TOKENS: usize = 100_000;
/// Tokens on one connection.
const STREAMS: usize = 200;
const SECRET: &str = "a-shared-secret-of-thirty-two-bytes!";

/// What the proxy lets the filter call: everything but the foreign functions, so that all is verified in the VM.
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

fn gate(signers: &Signers) -> Value {
    let common = json!({"audiences": ["api", "api2"], "headers": {"X-Plan": "plan"}});
    let issuer = |own: Value| {
        let mut issuer = common.clone();
        issuer
            .as_object_mut()
            .unwrap()
            .extend(own.as_object().unwrap().clone());
        issuer
    };
    json!({
        "issuers": {
            "keyed": issuer(json!({
                "issuer": "https://keyed.example", "algorithms": ["RS256", "PS256", "ES256", "EdDSA"],
                "jwks": {"inline": signers.jwks()},
            })),
            "shared": issuer(json!({
                "issuer": "https://shared.example", "algorithms": ["HS256"], "secret": {"env": "SHARED_SECRET"},
            })),
        },
        "rules": [{"name": "all", "authenticate": {"any": ["issuers/keyed", "issuers/shared"]}}],
    })
}

struct Silent;

impl Observer for Silent {
    fn observe(&self, _: &Observation<'_>) {}
}

/// The gate, natively.
struct Native {
    gate: Gate,
    tables: Tables,
    clock: ManualClock,
    state: MemoryState,
}

impl Native {
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

    fn verdict(&self, token: &str) -> &'static str {
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
            observer: &Silent,
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

async fn agrees(fixture: &Fixture, made: &[String], verdicts: &[&str]) {
    for (made, verdicts) in made.chunks(STREAMS).zip(verdicts.chunks(STREAMS)) {
        let mut streams = Streams::open(fixture.envoy.addr()).await;
        streams.get("/direct/x", made).await;
        let answers = streams.verdicts().await;
        for ((token, verdict), admitted) in made.iter().zip(verdicts).zip(answers) {
            assert_eq!(*verdict == "admitted", admitted, "natively {verdict}: {token}");
        }
    }
    let mut counts = BTreeMap::new();
    for verdict in verdicts {
        *counts.entry(format!("all.{verdict}")).or_insert(0) += 1;
    }
    for (name, count) in &counts {
        fixture.expect_count(name, *count);
    }
    assert_eq!(fixture.decisions(), counts);
    fixture.assert_sound("tokens");
}

#[tokio::test]
async fn every_token_comes_to_the_same_whoever_verifies_it() {
    let signers = Signers::new(SECRET);
    let gate = gate(&signers);
    let native = Native::new(&gate);
    let mut generator = Generator::new(&signers, tokens::now());
    let made: Vec<String> = (0..TOKENS).map(|_| generator.token()).collect();
    let verdicts: Vec<&str> = made.iter().map(|token| native.verdict(token)).collect();
    let admitted = verdicts.iter().filter(|verdict| **verdict == "admitted").count();
    assert!(
        admitted > TOKENS / 20 && admitted < TOKENS / 2,
        "{admitted} admitted: neither side is tested well"
    );
    let setup = Setup::new(gate).workers(2).env("SHARED_SECRET", SECRET);
    let by_proxy = setup.clone().start();
    assert!(by_proxy.envoy.log().contains("are verified by the proxy"));
    agrees(&by_proxy, &made, &verdicts).await;
    drop(by_proxy);
    let in_vm = setup
        .change(
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
    agrees(&in_vm, &made, &verdicts).await;
}

/// What was admitted by one algorithm and refused by another, one by one.
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
        let good = tokens::claims("i", "a", "alice", 3600);
        let mut tokens = vec![keys.mint(alg, &good)];
        for (name, value) in [
            ("sub", json!(12345)),
            ("sub", json!(true)),
            ("sub", json!(null)),
            ("jti", json!(1)),
            ("aud", json!(["a", 7])),
            ("iss", json!(["i"])),
        ] {
            let mut claims = good.clone();
            claims[name] = value;
            tokens.push(keys.mint(alg, &claims));
        }
        let mut streams = Streams::open(fixture.envoy.addr()).await;
        streams.get("/direct/x", &tokens).await;
        let verdicts = streams.verdicts().await;
        let wanted: Vec<bool> = (0..tokens.len()).map(|n| n == 0).collect();
        assert_eq!(verdicts, wanted, "{}", alg.name());
        refused += tokens.len() as u64 - 1;
    }
    fixture.expect_count("all.token_malformed", refused);
}
