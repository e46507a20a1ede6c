//! Benchmarks of policy decisions in the host, each with a new instance as in production.
//!
//! They use the shipped `rbac` module; `cargo xtask bench policy` builds it and runs them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark cannot run when its setup fails"
)]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use postern_policy::{
    Cache, Capability, Decision, Engines, EntrySettings, Grants, Header, HostServices, Identity, Limits,
    Module, Policies, Request, Settings, Source, Store,
};
use postern_testbed::modules;
use serde_json::json;

/// A request with 15 headers and an identity.
fn request() -> Request {
    Request {
        id: "6f1f2d6e-0c8b-4c44-8f5d-7a3b9e1c2d3e".into(),
        rule: "allocate".into(),
        method: "POST".into(),
        scheme: "https".into(),
        authority: "api.example.com".into(),
        path: "/kernel/allocate".into(),
        query: None,
        headers: (0..15)
            .map(|i| Header {
                name: format!("x-header-{i}"),
                value: format!("a value of the usual length, {i}").into_bytes(),
            })
            .collect(),
        body: None,
        source_address: Some("192.0.2.7".into()),
        identity: Some(Identity {
            subject: "ann".into(),
            issuer: "issuers/sigil".into(),
            method: "jwt".into(),
            roles: vec!["Operator".into()],
            tenant: None,
            claims: r#"{"sub":"ann","roles":["Operator"]}"#.into(),
        }),
        time: 1_772_323_200_000,
    }
}

fn settings() -> Settings {
    let module = modules::shipped("rbac").unwrap_or_else(|error| panic!("{error}"));
    let entry = EntrySettings {
        source: Source::File {
            module,
            digest: None,
            cases: None,
        },
        grants: Grants {
            capabilities: [Capability::Config].into(),
            hosts: vec![],
        },
        config: json!({"rules": [
            {"methods": ["GET"], "path": "/kernel/audit/{id}", "roles": ["Auditor", "SuperAdmin"]},
            {"methods": ["POST"], "path": "/kernel/allocate", "roles": ["Operator", "DivisionLead", "SuperAdmin"]},
        ]}),
        limits: Limits::default(),
    };
    Settings {
        entries: [("rbac".to_owned(), entry)].into(),
        ..Settings::default()
    }
}

fn decisions(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let engines = Engines::new(64, Limits::default().memory).unwrap();
    let services = HostServices {
        store: Store::Memory,
        client: postern_policy::http_client().unwrap(),
        signer: None,
    };
    let policies = Policies::new(engines.clone(), None, services, settings());
    assert_eq!(runtime.block_on(policies.load()).errors().count(), 0);
    let request = request();
    let decide = || runtime.block_on(policies.decide("rbac", &request)).unwrap();
    assert!(matches!(decide().decision, Decision::Allow(_)));
    c.bench_function("rbac, a new instance, 15 headers", |b| b.iter(decide));

    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(&folder.path().join("compiled")).unwrap();
    let wasm = std::fs::read(modules::shipped("rbac").unwrap()).unwrap();
    let load = || Module::compile(&engines, Some(&cache), &wasm).unwrap();
    load();
    c.bench_function("rbac, compilation from the cache", |b| b.iter(load));
}

criterion_group! {
    name = benches;
    config = Criterion::default().measurement_time(Duration::from_secs(5)).noise_threshold(0.05);
    targets = decisions
}
criterion_main!(benches);
