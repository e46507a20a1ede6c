//! The admin API.

use std::os::unix::fs::symlink;

use crate::support::{
    TOKEN, WorkDir, allowing_module, check, connect, decide, denying_module, get, http, wait_for_decision,
};
use postern_policy::Digest;
use serde_json::json;

#[tokio::test]
async fn each_route_has_its_status_and_body() {
    let dir = WorkDir::new();
    dir.file("yes.wasm", &allowing_module());
    let host = dir.start("{entries: {'yes': {file: yes.wasm}}}").await;
    let mut client = connect(&host.addresses()[0]).await;
    decide(&mut client, check("yes", "GET", "/")).await;

    assert_eq!(get(&host, "/healthz").await.body, "ok\n");
    let ready = get(&host, "/readyz").await;
    assert_eq!(
        (ready.status, ready.json()),
        (200, json!({"ready": true, "faults": {}}))
    );
    let metrics = get(&host, "/metrics").await;
    assert!(
        metrics
            .head
            .contains("content-type: application/openmetrics-text"),
        "{}",
        metrics.head
    );
    for series in [
        r#"postern_policy_decisions_total{policy="yes",result="allowed"} 1"#,
        r#"postern_policy_duration_seconds_count{policy="yes"} 1"#,
        r#"postern_policy_loads_total{result="loaded"} 1"#,
        r#"postern_build_info{version=""#,
        "# EOF",
    ] {
        assert!(metrics.body.contains(series), "no {series} in {}", metrics.body);
    }
    let digest = Digest::of(&allowing_module()).to_string();
    let all = get(&host, "/v1/policies").await.json();
    assert_eq!(
        (&all[0]["name"], &all[0]["digest"], &all[0]["allowed"]),
        (&json!("yes"), &json!(digest), &json!(1))
    );
    assert_eq!(get(&host, "/v1/policies/yes").await.json()["kind"], "authorizer");

    let admin = host.admin().unwrap();
    for (method, path, status, code) in [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/policies/other", 404, "not_found"),
        ("POST", "/healthz", 405, "method_not_allowed"),
        ("GET", "/v1/policies/reload", 405, "method_not_allowed"),
        ("DELETE", "/v1/policies/yes", 405, "method_not_allowed"),
    ] {
        let response = http(admin, method, path, None).await.unwrap();
        assert_eq!(
            (response.status, &response.json()["code"]),
            (status, &json!(code)),
            "{method} {path}"
        );
        assert!(
            response.head.contains("content-type: application/problem+json"),
            "{}",
            response.head
        );
    }
    host.stop().await.unwrap();
}

#[tokio::test]
async fn on_tcp_a_token_is_needed_for_all_but_health() {
    let dir = WorkDir::new();
    dir.file("yes.wasm", &allowing_module());
    let text = "listen: ['unix:host.sock']\nadmin: {listen: '127.0.0.1:0', token: {env: TOKEN}}\n\
                policies: {entries: {'yes': {file: yes.wasm}}}";
    let host = dir.try_start(text).await.unwrap();
    let admin = host.admin().unwrap();
    for (method, path, open) in [
        ("GET", "/healthz", true),
        ("GET", "/readyz", true),
        ("GET", "/metrics", false),
        ("GET", "/v1/policies", false),
        ("GET", "/v1/policies/yes", false),
        ("GET", "/v1/policies/other", false),
        ("POST", "/v1/policies/reload", false),
    ] {
        let one_more = format!("{TOKEN}x");
        for wrong in [
            None,
            Some(""),
            Some("wrong"),
            TOKEN.get(1..),
            Some(one_more.as_str()),
        ] {
            let response = http(admin, method, path, wrong).await.unwrap();
            assert_eq!(response.status, if open { 200 } else { 401 }, "{path} {wrong:?}");
            assert_eq!(response.head.contains("www-authenticate: bearer"), !open);
        }
        let response = http(admin, method, path, Some(TOKEN)).await.unwrap();
        assert_eq!(
            response.status,
            if path.ends_with("other") { 404 } else { 200 },
            "{path}"
        );
    }
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_tampered_file_is_reported_and_the_loaded_module_keeps_serving() {
    let dir = WorkDir::new();
    let first = denying_module("first");
    dir.file("a.wasm", &first);
    dir.file("b.wasm", &allowing_module());
    let digest = Digest::of(&first);
    let entries = format!("{{a: {{file: a.wasm, digest: '{digest}'}}, b: {{file: b.wasm}}}}");
    let host = dir.start(&format!("{{watch: false, entries: {entries}}}")).await;
    let mut client = connect(&host.addresses()[0]).await;
    let admin = host.admin().unwrap();
    let reload = async || http(admin, "POST", "/v1/policies/reload", None).await.unwrap();
    let same = reload().await;
    assert_eq!(same.status, 200);
    assert_eq!(
        same.json()["policies"],
        json!({"a": {"result": "unchanged"}, "b": {"result": "unchanged"}})
    );

    dir.file("a.wasm", &denying_module("evil"));
    dir.file("b.wasm", &denying_module("second"));
    let report = reload().await;
    assert_eq!(report.status, 422);
    let policies = &report.json()["policies"];
    assert_eq!(
        (&policies["a"]["result"], &policies["a"]["kind"]),
        (&json!("failed"), &json!("digest"))
    );
    assert!(
        policies["a"]["reason"]
            .as_str()
            .unwrap()
            .contains(&digest.to_string())
    );
    assert_eq!(policies["b"]["result"], "swapped");
    assert_eq!(
        policies["b"]["digest"],
        Digest::of(&denying_module("second")).to_string()
    );
    assert_eq!(
        decide(&mut client, check("a", "GET", "/")).await,
        "denied 403 first"
    );
    assert_eq!(
        decide(&mut client, check("b", "GET", "/")).await,
        "denied 403 second"
    );

    let ready = get(&host, "/readyz").await;
    assert_eq!(ready.status, 200, "all entries can be served");
    assert!(
        ready.json()["faults"]["a"]
            .as_str()
            .unwrap()
            .contains("should be"),
        "{ready:?}"
    );
    assert!(get(&host, "/v1/policies/a").await.json()["fault"]["reason"].is_string());
    let metrics = get(&host, "/metrics").await.body;
    assert!(
        metrics.contains(r#"postern_policy_fault{policy="a"} 1"#),
        "{metrics}"
    );
    assert!(
        metrics.contains(r#"postern_policy_loads_total{result="digest"} 1"#),
        "{metrics}"
    );

    dir.file("a.wasm", &first);
    assert_eq!(reload().await.status, 200);
    assert!(
        !get(&host, "/metrics")
            .await
            .body
            .contains("postern_policy_fault{")
    );
    host.stop().await.unwrap();
}

#[tokio::test]
async fn an_entry_without_a_module_makes_the_host_unready() {
    let dir = WorkDir::new();
    dir.file("yes.wasm", &allowing_module());
    dir.file("broken.wasm", b"\0asm");
    let entries = "{'yes': {file: yes.wasm}, gone: {file: gone.wasm}, broken: {file: broken.wasm}}";
    let host = dir.start(&format!("{{entries: {entries}}}")).await;
    let mut client = connect(&host.addresses()[0]).await;
    let ready = get(&host, "/readyz").await;
    assert_eq!(ready.status, 503);
    let faults = &ready.json()["faults"];
    assert!(
        faults["gone"].is_string() && faults["broken"].is_string() && faults["yes"].is_null(),
        "{faults}"
    );
    assert_eq!(decide(&mut client, check("gone", "GET", "/")).await, "failed 13");
    assert_eq!(decide(&mut client, check("yes", "GET", "/")).await, "allowed");

    dir.file("gone.wasm", &allowing_module());
    dir.file("broken.wasm", &denying_module("fixed"));
    wait_for_decision(&mut client, &check("gone", "GET", "/"), "allowed").await;
    wait_for_decision(&mut client, &check("broken", "GET", "/"), "denied 403 fixed").await;
    while get(&host, "/readyz").await.status != 200 {}
    host.stop().await.unwrap();
}

#[tokio::test]
async fn changed_files_are_loaded() {
    let dir = WorkDir::new();
    dir.file("a.wasm", &denying_module("first"));
    // As in a mounted ConfigMap: the file is a symlink through another symlink, which is swapped.
    for (version, code) in [("1", "one"), ("2", "two")] {
        std::fs::create_dir_all(dir.path(&format!("map/{version}"))).unwrap();
        dir.file(&format!("map/{version}/b.wasm"), &denying_module(code));
    }
    symlink("1", dir.path("map/..data")).unwrap();
    symlink("..data/b.wasm", dir.path("map/b.wasm")).unwrap();
    let host = dir
        .start("{entries: {a: {file: a.wasm}, b: {file: map/b.wasm}}}")
        .await;
    let mut client = connect(&host.addresses()[0]).await;
    let (a, b) = (check("a", "GET", "/"), check("b", "GET", "/"));
    assert_eq!(decide(&mut client, a.clone()).await, "denied 403 first");
    assert_eq!(decide(&mut client, b.clone()).await, "denied 403 one");

    for code in ["second", "third"] {
        dir.file("a.wasm", &denying_module(code));
        wait_for_decision(&mut client, &a, &format!("denied 403 {code}")).await;
    }
    std::fs::write(dir.path("a.wasm"), denying_module("in_place")).unwrap();
    wait_for_decision(&mut client, &a, "denied 403 in_place").await;
    dir.file("a.wasm", b"no module");

    symlink("2", dir.path("map/..data_tmp")).unwrap();
    std::fs::rename(dir.path("map/..data_tmp"), dir.path("map/..data")).unwrap();
    wait_for_decision(&mut client, &b, "denied 403 two").await;
    assert_eq!(
        decide(&mut client, a.clone()).await,
        "denied 403 in_place",
        "an invalid module does not replace a valid one"
    );
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_deleted_behind_a_link_is_loaded_once_it_is_back() {
    let dir = WorkDir::new();
    std::fs::create_dir(dir.path("v2")).unwrap();
    dir.file("v2/a.wasm", &denying_module("first"));
    symlink("v2", dir.path("..data")).unwrap();
    symlink("..data/a.wasm", dir.path("a.wasm")).unwrap();
    let host = dir.start("{entries: {a: {file: a.wasm}}}").await;
    let mut client = connect(&host.addresses()[0]).await;
    let a = check("a", "GET", "/");
    assert_eq!(decide(&mut client, a.clone()).await, "denied 403 first");

    std::fs::remove_file(dir.path("v2/a.wasm")).unwrap();
    // The host has seen that the file is gone, and has looked up again what to watch.
    while !get(&host, "/metrics")
        .await
        .body
        .contains("postern_policy_fault{")
    {}
    dir.file("v2/a.wasm", &denying_module("second"));
    wait_for_decision(&mut client, &a, "denied 403 second").await;
    host.stop().await.unwrap();
}

#[tokio::test]
async fn a_reload_adds_and_removes_entries() {
    let dir = WorkDir::new();
    dir.file("a.wasm", &denying_module("first"));
    dir.file("new.wasm", &allowing_module());
    let settings =
        |policies: &str| dir.settings(&format!("listen: ['unix:host.sock']\npolicies: {policies}"));
    let before = settings("{entries: {a: {file: a.wasm}}}");
    let mut host = postern_server::Host::start(before).await.unwrap();
    let mut client = connect(&host.addresses()[0]).await;

    for too_much in [
        "{entries: {a: {file: a.wasm, memory: 32MiB}}}",
        "{entries: {a: {file: a.wasm}, b: {file: new.wasm}}}",
    ] {
        let refused = host.reload(settings(too_much)).await.unwrap_err();
        assert!(refused.contains("restart"), "{refused}");
        assert_eq!(
            decide(&mut client, check("a", "GET", "/")).await,
            "denied 403 first"
        );
    }
    host.reload(settings("{entries: {b: {file: new.wasm}}}"))
        .await
        .unwrap();
    assert_eq!(decide(&mut client, check("a", "GET", "/")).await, "failed 13");
    assert_eq!(decide(&mut client, check("b", "GET", "/")).await, "allowed");
    dir.file("new.wasm", &denying_module("watched"));
    wait_for_decision(&mut client, &check("b", "GET", "/"), "denied 403 watched").await;
    host.stop().await.unwrap();
}
