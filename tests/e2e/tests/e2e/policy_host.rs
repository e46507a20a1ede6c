//! The policy host with the shipped modules, behind the filter and behind Envoy's own `ext_authz` filter.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postern_e2e::{Fixture, Request, Setup, Version, client};
use postern_testbed::idp::{Alg, IdentityProvider};
use postern_testbed::policy_host::{self, PolicyHost};
use postern_testbed::sample_api::SampleApi;
use postern_testbed::tokens;
use postern_testbed::{modules, text_modules};
use serde_json::{Value, json};

/// Copies shipped modules to the folder of the host.
fn shipped(names: &'static [&'static str]) -> impl FnOnce(&Path) -> io::Result<()> {
    move |folder| {
        for name in names {
            let module = modules::shipped(name).unwrap_or_else(|error| panic!("{error}"));
            std::fs::copy(module, folder.join(format!("{name}.wasm")))?;
        }
        Ok(())
    }
}

fn host(policies: &Value, names: &'static [&'static str]) -> PolicyHost {
    start(policies, shipped(names))
}

fn start(policies: &Value, prepare: impl FnOnce(&Path) -> io::Result<()>) -> PolicyHost {
    policy_host::binary()
        .and_then(|binary| PolicyHost::start(binary, policies, prepare))
        .unwrap_or_else(|error| panic!("{error}"))
}

/// An `rbac` entry with roles by method and path.
fn rbac() -> Value {
    json!({
        "file": "rbac.wasm", "grants": ["config"],
        "config": {"rules": [
            {"methods": ["POST"], "path": "/kernel/division", "roles": ["SuperAdmin", "Service"]},
            {"methods": ["GET"], "path": "/kernel/audit/{id}", "roles": ["Auditor", "SuperAdmin"]},
        ]},
    })
}

fn rule(name: &str, prefix: &str, policy: Value) -> Value {
    json!({"name": name, "match": {"path": {"prefix": prefix}}, "authenticate": {"any": ["issuers/demo"]}, "policy": policy})
}

fn gate(rules: &[Value]) -> Value {
    let mut gate = postern_e2e::gate_yaml();
    gate["issuers"]["demo"]["tenant_claim"] = "tenant".into();
    gate["host"] = json!({"cluster": "postern_host", "timeout": "1s"});
    gate["rules"] = json!(rules);
    // No request is signed here, and no secret is passed to the VM.
    gate["signatures"] = json!({});
    gate
}

fn token(idp: &IdentityProvider, role: &str, tenant: &str) -> String {
    let mut claims = tokens::claims("https://idp.example", "orders", "ann", 600);
    claims["tenant"] = tenant.into();
    claims["realm_access"] = json!({"roles": [role]});
    idp.mint(Alg::Es256, &claims)
}

#[tokio::test]
async fn modules_decide_on_the_identity_the_path_and_the_body() {
    let policies = json!({"entries": {
        "rbac": rbac(),
        "tenant": {"file": "tenant.wasm", "grants": ["config"],
                   "config": {"paths": ["/t/{tenant}/{rest..}"], "set_header": "x-tenant"}},
    }});
    let host = host(&policies, &["rbac", "tenant"]);
    let rules = [
        rule("kernel", "/kernel", json!({"module": "rbac"})),
        rule("tenants", "/t", json!({"module": "tenant"})),
    ];
    let fixture = Setup::new(gate(&rules))
        .workers(2)
        .policy_host(host.addr())
        .start();
    let http = client(Version::Http1);
    for (method, path, role, tenant, status, code) in [
        ("POST", "/kernel/division", "Service", "acme", 200, None),
        (
            "POST",
            "/kernel/division",
            "Auditor",
            "acme",
            403,
            Some("role_missing"),
        ),
        ("GET", "/kernel/audit/7", "Auditor", "acme", 200, None),
        ("GET", "/kernel/other", "SuperAdmin", "acme", 403, Some("no_rule")),
        // The path is percent-decoded for the module, as the upstream may decode it.
        (
            "POST",
            "/kernel/%64ivision",
            "Auditor",
            "acme",
            403,
            Some("role_missing"),
        ),
        ("GET", "/t/acme/things", "Reader", "acme", 200, None),
        (
            "GET",
            "/t/other/things",
            "Reader",
            "acme",
            403,
            Some("tenant_mismatch"),
        ),
    ] {
        let request = Request::new(method, path).bearer(&token(&fixture.idp, role, tenant));
        let case = format!("{method} {path} as {role} of {tenant}");
        request.send(&http, &fixture).await.expect(status, code, &case);
    }
    let received = fixture.api.requests();
    assert_eq!(
        received.last().unwrap().header("x-tenant"),
        Some("acme"),
        "{received:?}"
    );
    fixture.assert_healthy("policies");
}

#[tokio::test]
async fn a_module_reads_the_body_and_a_spin_module_writes_its_own_response() {
    let policies = json!({"entries": {
        "sentinel": {"file": "sentinel.wasm", "grants": ["config"], "config": {"rules": [
            {"name": "budget", "methods": ["POST"], "path": "/kernel/allocate", "require": ["/team"],
             "limits": [{"at": "/cpus", "max": 64}]},
        ]}},
        "maintenance": {"file": "maintenance.wasm", "deadline": "1s", "grants": ["config"], "config": {
            "windows": [{"from": "2020-01-01T00:00:00Z", "until": "2999-01-01T00:00:00Z"}],
            "exempt_roles": ["SuperAdmin"],
        }},
    }});
    let host = host(&policies, &["sentinel", "maintenance"]);
    let rules = [
        rule(
            "allocate",
            "/kernel",
            json!({"module": "sentinel", "body": "4KiB"}),
        ),
        rule("closed", "/closed", json!({"module": "maintenance"})),
    ];
    let fixture = Setup::new(gate(&rules)).policy_host(host.addr()).start();
    let http = client(Version::Http1);
    let operator = token(&fixture.idp, "Operator", "acme");
    let admin = token(&fixture.idp, "SuperAdmin", "acme");
    for (path, body, status, code) in [
        ("/kernel/allocate", r#"{"team": "a", "cpus": 8}"#, 200, None),
        (
            "/kernel/allocate",
            r#"{"team": "a", "cpus": 65}"#,
            403,
            Some("limit_exceeded"),
        ),
        ("/kernel/allocate", r#"{"cpus": 8}"#, 403, Some("field_missing")),
        ("/kernel/allocate", "not JSON", 400, Some("body_invalid")),
        ("/closed", "", 503, Some("maintenance")),
    ] {
        let request = Request::post(path, body).bearer(&operator);
        let case = format!("{path} with {body}");
        let response = request.send(&http, &fixture).await;
        response.expect(status, code, &case);
        assert_eq!(
            response.header("retry-after").is_some(),
            path == "/closed",
            "{case}: the header of the module"
        );
    }
    let exempt = Request::post("/closed", "").bearer(&admin);
    exempt
        .send(&http, &fixture)
        .await
        .expect(200, None, "an exempt role");
    let large = Request::post("/kernel/allocate", vec![b' '; 5000]).bearer(&operator);
    large
        .send(&http, &fixture)
        .await
        .expect(413, Some("body_too_large"), "5 KiB");
    fixture.assert_healthy("body");
}

/// Envoy's own filter in place of Postern's. The context extensions of the route name the policy.
const EXT_AUTHZ_FILTER: &str = r#"          http_filters:
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              transport_api_version: V3
              failure_mode_allow: false
              status_on_error: {code: 503}
              with_request_body: {max_request_bytes: 4096, allow_partial_message: false, pack_as_bytes: true}
              grpc_service:
                envoy_grpc: {cluster_name: postern_host}
                timeout: 1s
          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
"#;

fn with_ext_authz_filter(text: &str) -> String {
    let (before, rest) = text.split_once("          http_filters:\n").unwrap();
    let (_, after) = rest.split_once("  clusters:\n").unwrap();
    let text = format!("{before}{EXT_AUTHZ_FILTER}  clusters:\n{after}");
    let route = "                route: {cluster: api}\n";
    assert!(text.contains(route));
    text.replace(
        route,
        r#"                route: {cluster: api}
                typed_per_filter_config:
                  envoy.filters.http.ext_authz:
                    "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                    check_settings:
                      context_extensions: {postern.module: sentinel, postern.rule: all}
"#,
    )
}

#[tokio::test]
async fn envoys_own_ext_authz_filter_works_against_the_host() {
    let policies = json!({"entries": {
        "sentinel": {"file": "sentinel.wasm", "grants": ["config"], "config": {"rules": [
            {"name": "budget", "methods": ["POST"], "path": "/kernel/allocate", "limits": [{"at": "/cpus", "max": 64}]},
        ]}},
    }});
    let mut host = host(&policies, &["sentinel"]);
    let setup = Setup::new(postern_e2e::gate_yaml()).policy_host(host.addr());
    let (idp, api) = (IdentityProvider::start().unwrap(), SampleApi::start().unwrap());
    let bootstrap = with_ext_authz_filter(&setup.bootstrap(&idp, &api));
    assert!(!bootstrap.contains("postern.wasm"));
    let envoy = setup
        .envoy(bootstrap)
        .start()
        .unwrap_or_else(|error| panic!("{error}"));
    let http = client(Version::Http1);
    let post = async |path: &str, body: &str| {
        let request = Request::post(path, body).header("x-postern-subject", "forged");
        request.send_to(&http, &envoy.url("")).await.unwrap()
    };
    post("/kernel/allocate", r#"{"cpus": 8}"#)
        .await
        .expect(200, None, "within");
    post("/kernel/allocate", r#"{"cpus": 65}"#)
        .await
        .expect(403, Some("limit_exceeded"), "above");
    post("/kernel//allocate", "{}")
        .await
        .expect(400, Some("path_ambiguous"), "an ambiguous path");
    assert_eq!(api.count(), 1);

    // To Envoy a failed module is an error, not a decision.
    host.install(
        "sentinel.wasm",
        &text_modules::authorizer("", "unreachable").unwrap(),
    )
    .unwrap();
    host.admin("POST", "/v1/policies/reload").unwrap();
    post("/kernel/allocate", "{}")
        .await
        .expect(503, Some("policy_failed"), "traps");
    assert_eq!(envoy.stat("http.ingress.ext_authz.error"), Some(1), "an error");
    assert_eq!(envoy.stat("http.ingress.ext_authz.denied"), Some(2), "decisions");
    host.kill();
    assert_eq!(post("/kernel/allocate", "{}").await.status, 503, "no host");
}

/// Concurrent clients with 500 requests per second in total.
struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<BTreeMap<String, usize>>>,
}

const CLIENTS: u32 = 10;
const PER_SECOND: u32 = 500;

impl Load {
    fn start(fixture: &Fixture, path: &'static str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|_| {
            let (stop, url) = (Arc::clone(&stop), fixture.envoy.url(""));
            tokio::spawn(async move {
                let (http, request) = (client(Version::Http1), Request::get(path));
                let mut ticks = tokio::time::interval(Duration::from_secs(1) * CLIENTS / PER_SECOND);
                let mut responses = BTreeMap::new();
                while !stop.load(Ordering::Relaxed) {
                    ticks.tick().await;
                    let response = match request.send_to(&http, &url).await {
                        Ok(response) => response.code().unwrap_or_else(|| response.status.to_string()),
                        Err(error) => format!("{error:?}"),
                    };
                    *responses.entry(response).or_default() += 1;
                }
                responses
            })
        });
        let clients = clients.collect();
        Self { stop, clients }
    }

    /// Stops the clients and counts the responses by code, or status without one.
    async fn stop(self) -> BTreeMap<String, usize> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = BTreeMap::new();
        for client in self.clients {
            for (response, count) in client.await.unwrap() {
                *all.entry(response).or_default() += count;
            }
        }
        all
    }
}

fn gate_with_policy(path: &str) -> Value {
    gate(&[json!({"name": "p", "match": {"path": {"exact": path}}, "open": true, "policy": {"module": "p"}})])
}

fn host_with_denying_module(code: &str) -> PolicyHost {
    let policies = json!({"watch": false, "entries": {"p": {"file": "p.wasm"}}});
    let module = text_modules::denying_module(code).unwrap();
    start(&policies, |folder| std::fs::write(folder.join("p.wasm"), module))
}

/// How long modules are swapped under load: `POSTERN_SWAP_SECONDS`, 8 s by default.
fn swap_seconds() -> u64 {
    std::env::var("POSTERN_SWAP_SECONDS").map_or(8, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modules_swapped_every_second_under_load_lose_no_request() {
    let host = host_with_denying_module("version_0");
    let fixture = Setup::new(gate_with_policy("/p"))
        .workers(2)
        .policy_host(host.addr())
        .start();
    let load = Load::start(&fixture, "/p");
    let (http, swaps) = (client(Version::Http1), swap_seconds());
    // The first version decides some requests too.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let started = Instant::now();
    for i in 1..=swaps {
        host.install(
            "p.wasm",
            &text_modules::denying_module(&format!("version_{i}")).unwrap(),
        )
        .unwrap();
        host.admin("POST", "/v1/policies/reload").unwrap();
        // After the response to the reload, every decision is by the new version.
        let response = Request::get("/p").send(&http, &fixture).await;
        response.expect(403, Some(&format!("version_{i}")), "after the swap");
        tokio::time::sleep((started + Duration::from_secs(i)).saturating_duration_since(Instant::now()))
            .await;
    }
    let responses = load.stop().await;
    println!("{swaps} swaps under load: {responses:?}");
    let known = |response: &String| {
        response
            .strip_prefix("version_")
            .is_some_and(|n| n.parse::<u64>().is_ok())
    };
    assert!(
        responses.keys().all(known),
        "only decisions of a version: {responses:?}"
    );
    assert_eq!(
        responses.len() as u64,
        swaps + 1,
        "each version decided: {responses:?}"
    );
    fixture.assert_healthy("swaps");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_filter_recovers_from_kills_of_the_host_under_load() {
    let mut host = host_with_denying_module("decided");
    let fixture = Setup::new(gate_with_policy("/p"))
        .workers(2)
        .policy_host(host.addr())
        .start();
    let load = Load::start(&fixture, "/p");
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        host.kill();
        tokio::time::sleep(Duration::from_millis(500)).await;
        host.restart().unwrap_or_else(|error| panic!("{error}"));
        Request::get("/p")
            .send(&client(Version::Http1), &fixture)
            .await
            .expect(403, Some("decided"), "back");
    }
    let responses = load.stop().await;
    println!("three kills under load: {responses:?}");
    let kinds: Vec<_> = responses.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["decided", "policy_unavailable"], "{responses:?}");
    fixture.assert_healthy("kills");
}
