//! Checks, as gates and Envoy's own filter send them, over TCP and over a Unix socket.

use std::time::{Duration, Instant};

use crate::support::{
    WorkDir, allowing_module, check, connect, decide, denying_module, get, looping_module, with_role,
};
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

fn dir() -> WorkDir {
    let dir = WorkDir::new();
    dir.file("yes.wasm", &allowing_module());
    dir.file("no.wasm", &denying_module("quorum_missing"));
    dir.file("spin.wasm", &looping_module());
    dir
}

#[tokio::test]
async fn decisions_over_both_kinds_of_listener() {
    let dir = dir();
    let text = "listen: ['unix:host.sock', '127.0.0.1:0', '[::1]:0']\n\
                policies: {default: 'yes', entries: {'yes': {file: yes.wasm}, 'no': {file: no.wasm}}}";
    let host = dir.try_start(text).await.unwrap();
    assert_eq!(host.addresses().len(), 3);
    for address in host.addresses() {
        let mut client = connect(address).await;
        for (entry, path, expected) in [
            ("yes", "/a", "allowed"),
            ("no", "/a", "denied 403 quorum_missing"),
            ("", "/a", "allowed"),
            ("yes", "/a/../b", "denied 400 path_ambiguous"),
            ("other", "/a", "failed 13"),
        ] {
            assert_eq!(
                decide(&mut client, check(entry, "GET", path)).await,
                expected,
                "{address} {entry} {path}"
            );
        }
    }
    host.stop().await.unwrap();
}

#[tokio::test]
async fn undecidable_checks_fail_and_are_never_allowed() {
    let dir = dir();
    let entries =
        "{'yes': {file: yes.wasm}, spin: {file: spin.wasm, deadline: 30ms}, gone: {file: gone.wasm}}";
    let host = dir.start(&format!("{{entries: {entries}}}")).await;
    let mut client = connect(&host.addresses()[0]).await;
    let mut caller = check("yes", "GET", "/");
    let extensions = &mut caller.attributes.as_mut().unwrap().context_extensions;
    extensions.insert("postern.identity".into(), "{\"subject\": \"ann\"}".into());
    for (check, expected) in [
        (check("", "GET", "/"), "failed 13"),
        (check("gone", "GET", "/"), "failed 13"),
        (check("spin", "GET", "/"), "failed 13"),
        (caller, "failed 13"),
        (check("yes", "GET", "/"), "allowed"),
    ] {
        assert_eq!(decide(&mut client, check).await, expected);
    }
    for invalid in [CheckRequest::default(), check("yes", "", "/")] {
        assert_eq!(
            client.check(invalid).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
    let metrics = get(&host, "/metrics").await.body;
    for series in [
        r#"postern_policy_decisions_total{policy="unknown",result="unnamed"} 1"#,
        r#"postern_policy_decisions_total{policy="gone",result="not_loaded"} 1"#,
        r#"postern_policy_decisions_total{policy="spin",result="deadline"} 1"#,
        r#"postern_policy_decisions_total{policy="yes",result="identity"} 1"#,
        r#"postern_policy_decisions_total{policy="yes",result="allowed"} 1"#,
        r#"postern_policy_duration_seconds_bucket{le="0.001",policy="spin"} 0"#,
        "postern_checks_in_flight 0",
    ] {
        assert!(metrics.contains(series), "no {series} in {metrics}");
    }
    host.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_queue_refuses_requests_to_one_policy_only() {
    let dir = dir();
    let spin = "{file: spin.wasm, deadline: 500ms, concurrency: 1, queue: 0}";
    let host = dir
        .start(&format!(
            "{{entries: {{spin: {spin}, 'yes': {{file: yes.wasm}}}}}}"
        ))
        .await;
    let client = connect(&host.addresses()[0]).await;
    let mut first = client.clone();
    let first = tokio::spawn(async move { decide(&mut first, check("spin", "GET", "/")).await });
    let mut client = client;
    while !get(&host, "/metrics")
        .await
        .body
        .contains("postern_checks_in_flight 1")
    {
        assert!(!first.is_finished(), "the first check is still running");
    }
    let started = Instant::now();
    assert_eq!(
        decide(&mut client, check("spin", "GET", "/")).await,
        "failed 14",
        "overloaded"
    );
    assert_eq!(decide(&mut client, check("yes", "GET", "/")).await, "allowed");
    assert!(
        !first.is_finished() && started.elapsed() < Duration::from_millis(400),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(first.await.unwrap(), "failed 13", "its deadline");
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_check_that_is_too_large_is_refused() {
    let dir = dir();
    let host = dir
        .start("{entries: {'yes': {file: yes.wasm, memory: 64MiB}}}")
        .await;
    let mut client = connect(&host.addresses()[0]).await;
    for (size, fits) in [(1 << 20, true), (2 << 20, false)] {
        let mut check = check("yes", "POST", "/");
        let request = check.attributes.as_mut().unwrap().request.as_mut().unwrap();
        request.http.as_mut().unwrap().raw_body = vec![b'x'; size];
        assert_eq!(client.check(check).await.is_ok(), fits, "{size}");
    }
    host.stop().await.unwrap();
}

#[tokio::test]
async fn gates_reach_checks_and_health() {
    let dir = dir();
    let text = "listen: ['127.0.0.1:0', 'unix:host.sock']\npolicies: {entries: {'yes': {file: yes.wasm}}}";
    let host = dir.try_start(text).await.unwrap();
    assert!(host.admin().is_none());
    for address in host.addresses() {
        let mut health = HealthClient::new(crate::support::channel(address).await);
        for service in ["", "envoy.service.auth.v3.Authorization"] {
            let request = HealthCheckRequest {
                service: service.into(),
            };
            assert_eq!(
                health.check(request).await.unwrap().get_ref().status,
                1,
                "{service}"
            );
        }
    }
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_built_module_decides_by_the_callers_roles() {
    let dir = WorkDir::new();
    dir.file("rbac.wasm", &crate::support::shipped("rbac"));
    let rules = "[{methods: [POST], path: '/orders/{id}', roles: [Operator]}, {path: /open, open: true}]";
    let entry =
        format!("{{file: rbac.wasm, grants: [config, log], config: {{rules: {rules}, cache_ms: 500}}}}");
    let host = dir.start(&format!("{{entries: {{rbac: {entry}}}}}")).await;
    let mut client = connect(&host.addresses()[0]).await;
    for (check, expected) in [
        (check("rbac", "GET", "/open"), "allowed"),
        (check("rbac", "POST", "/orders/7"), "denied 403 role_missing"),
        (
            with_role(check("rbac", "POST", "/orders/7"), "Operator"),
            "allowed",
        ),
        (
            with_role(check("rbac", "POST", "/%6frders/7?x=1"), "Operator"),
            "allowed",
        ),
        (
            with_role(check("rbac", "POST", "/orders/7"), "Auditor"),
            "denied 403 role_missing",
        ),
        (
            with_role(check("rbac", "GET", "/other"), "Operator"),
            "denied 403 no_rule",
        ),
    ] {
        let shown = format!("{check:?}");
        assert_eq!(decide(&mut client, check).await, expected, "{shown}");
    }
    let response = client
        .check(check("rbac", "GET", "/open"))
        .await
        .unwrap()
        .into_inner();
    assert!(matches!(
        response.http_response,
        Some(HttpResponse::OkResponse(_))
    ));
    assert!(format!("{:?}", response.dynamic_metadata.unwrap()).contains("NumberValue(500.0)"));
    host.stop().await.unwrap();
}
