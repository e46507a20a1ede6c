//! Audit events through a real Envoy: every request is recorded once, and required admissions before the release.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postern_e2e::{Fixture, Http1Connection, Request, Setup, Version, client};
use postern_testbed::audit_server::{AuditBehaviour, AuditRequest, AuditServer};
use postern_testbed::envoy::{self, Envoy};
use postern_testbed::idp::{Alg, IdentityProvider, JwksBehaviour};
use postern_testbed::sample_api::SampleApi;
use postern_testbed::{sign, tokens};
use serde_json::{Value, json};

const TOKEN: &str = "t0k3n-of-the-gate";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Far longer than an event needs to arrive: a tick, the flush, and the longest delay between two attempts.
const DEADLINE: Duration = Duration::from_secs(15);

fn gate(audit: &Value) -> Value {
    json!({
        "host": {"cluster": "postern_host", "timeout": "500ms", "token": {"env": "TOKEN"}},
        "audit": audit,
        "issuers": {"remote": {"issuer": "https://remote.example", "audiences": ["a"], "algorithms": ["ES256"],
                               "jwks": {"uri": "http://idp.example/.well-known/jwks.json", "cluster": "idp"}}},
        "api_keys": {"agents": {"keys": [
            {"id": "ci", "digest": sign::api_key_digest("SECRET-key"), "tenant": "acme"},
        ]}},
        "signatures": {"hooks": {"scheme": "github", "secrets": [{"env": "HOOK"}], "max_body": "1MiB"}},
        "rules": [
            {"name": "off", "match": {"path": {"prefix": "/off"}}, "open": true, "audit": "off"},
            {"name": "open", "match": {"path": {"prefix": "/open"}}, "open": true},
            {"name": "direct", "match": {"path": {"prefix": "/direct"}}, "open": true},
            {"name": "keyed", "match": {"path": {"prefix": "/keyed"}}, "authenticate": {"any": ["api_keys/agents"]}},
            {"name": "policy", "match": {"path": {"prefix": "/policy"}}, "open": true, "policy": {"module": "m"}},
            {"name": "required", "match": {"path": {"prefix": "/required"}},
             "authenticate": {"any": ["api_keys/agents"]}, "audit": "required"},
            {"name": "waived", "match": {"path": {"prefix": "/waived"}}, "open": true, "audit": "required",
             "policy": {"module": "m", "on_error": "allow"}},
            {"name": "token", "match": {"path": {"prefix": "/token"}}, "authenticate": {"any": ["issuers/remote"]},
             "audit": "required"},
            {"name": "hook", "match": {"path": {"prefix": "/hook"}}, "authenticate": {"any": ["signatures/hooks"]},
             "audit": "required"},
        ],
    })
}

fn start(audit: &Value, workers: u32) -> (Fixture, AuditServer) {
    start_with(audit, workers, IdentityProvider::start().unwrap())
}

fn start_with(audit: &Value, workers: u32, idp: IdentityProvider) -> (Fixture, AuditServer) {
    let server = AuditServer::start().unwrap();
    (setup(audit, workers, &server).start_with(idp), server)
}

fn setup(audit: &Value, workers: u32, server: &AuditServer) -> Setup {
    let setup = Setup::new(gate(audit)).workers(workers);
    let setup = setup.env("TOKEN", TOKEN).env("HOOK", "SECRET-hook");
    let setup = setup.replace("node: {id: demo,", "node: {id: edge-1,");
    setup.policy_host(server.addr())
}

/// Waits until the condition holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The durable events of a kind, without duplicates.
fn durable_events(server: &AuditServer, kind: &str) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let mut events = server.durable_events();
    events.retain(|event| event["kind"] == kind && seen.insert(event["id"].to_string()));
    events
}

/// Waits for `count` events of the kind `request`, and 0.5 s longer to notice surplus ones.
async fn request_events(server: &AuditServer, count: usize) -> Vec<Value> {
    until(
        &format!("{count} events: {:?}", durable_events(server, "request").len()),
        || durable_events(server, "request").len() >= count,
    )
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let events = durable_events(server, "request");
    assert_eq!(events.len(), count, "{events:#?}");
    events
}

fn stat(fixture: &Fixture, name: &str) -> u64 {
    fixture
        .envoy
        .stat(&format!("wasmcustom.postern.audit.{name}"))
        .unwrap_or_default()
}

async fn expect(fixture: &Fixture, path: &str, status: u16, code: Option<&str>) {
    let request = Request::get(path).api_key("SECRET-key");
    let response = request.send(&client(Version::Http1), fixture).await;
    response.expect(status, code, path);
}

const UNAVAILABLE: Option<&str> = Some("audit_unavailable");

#[tokio::test]
async fn every_request_is_recorded_once() {
    let (fixture, server) = start(&json!({}), 2);
    let client = client(Version::Http1);
    let key = "SECRET-key";
    for (request, status) in [
        (Request::get("/open/%41?page=2&size=50"), 200),
        (Request::new("DELETE", "/keyed").api_key(key), 200),
        (Request::get("/keyed/none"), 401),
        (Request::get("/nowhere"), 403),
        (Request::get("/open//x"), 400),
        (Request::get("/policy"), 503),
        (Request::post("/required", "body").api_key(key), 200),
        (Request::get("/direct"), 200),
        (Request::get("/off"), 200),
    ] {
        let response = request.send(&client, &fixture).await;
        assert_eq!(response.status, status, "{request:?}");
    }
    let events = request_events(&server, 8).await;
    let lines: BTreeSet<String> = events.iter().map(line).collect();
    let expected = [
        "GET /open/%41?page&size allowed - open 200 - - -",
        "DELETE /keyed allowed - keyed 200 ci acme -",
        "GET /keyed/none denied credentials_missing keyed 401 - - -",
        "GET /nowhere denied no_rule - 403 - - -",
        "GET /open//x denied path_ambiguous - 400 - - -",
        "GET /policy failed policy_failed policy 503 - - m",
        "POST /required allowed - required 200 ci acme -",
        "GET /direct allowed - direct 200 - - -",
    ];
    assert_eq!(lines, expected.map(str::to_owned).into());
    for event in &events {
        let latency = event["latency_us"].as_u64();
        assert!(latency.is_some_and(|latency| latency < 20_000_000), "{event}");
        let (id, time) = (event["id"].as_str().unwrap(), event["time"].as_str().unwrap());
        assert!(id.len() == 36 && id.as_bytes()[14] == b'7', "{id}");
        assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
        assert_eq!(event["gateway"], "edge-1");
    }
    let admissions = durable_events(&server, "admission");
    assert_eq!(admissions.len(), 1, "{admissions:?}");
    let requests = fixture.api.requests();
    let released = requests
        .iter()
        .find(|request| request.path == "/required")
        .unwrap();
    let id = released.header("x-request-id");
    assert!(
        id.is_some() && admissions[0]["request_id"].as_str() == id,
        "{admissions:?}"
    );
    let request = &server.requests()[0];
    assert_eq!(
        format!("{:?}", request.version),
        "HTTP/2.0",
        "the version of the cluster"
    );
    assert_eq!(request.header("content-type"), Some("application/json"));
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(request.header("authorization"), Some(bearer.as_str()));
    until("the statistics", || stat(&fixture, "acknowledged") == 9).await;
    assert_eq!((stat(&fixture, "sent"), stat(&fixture, "lost")), (9, 0));
    assert!(!fixture.envoy.log().contains(TOKEN));
    fixture.assert_healthy("recorded");
}

/// An event as a line, with `-` for absent members.
fn line(event: &Value) -> String {
    let fields = [
        "method", "path", "decision", "reason", "rule", "status", "subject", "tenant", "policy",
    ];
    let texts = fields.map(|field| match &event[field] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    texts.join(" ")
}

#[tokio::test]
async fn a_required_request_is_released_only_after_its_event_is_durable() {
    let (fixture, mut server) = start(&json!({}), 1);
    for behaviour in [
        AuditBehaviour::Hang,
        AuditBehaviour::Status(500),
        AuditBehaviour::Status(503),
        AuditBehaviour::Status(401),
        AuditBehaviour::Status(403),
        AuditBehaviour::Status(404),
        AuditBehaviour::Status(400),
        AuditBehaviour::Status(204),
        AuditBehaviour::Body("{\"durable\": 0}"),
        AuditBehaviour::Body("<html>"),
        AuditBehaviour::Body(""),
    ] {
        server.set_behaviour(behaviour.clone());
        let started = Instant::now();
        expect(&fixture, "/required", 503, UNAVAILABLE).await;
        let elapsed = started.elapsed();
        assert!(elapsed < Duration::from_secs(2), "{behaviour:?}: {elapsed:?}");
        server.set_behaviour(AuditBehaviour::Durable);
        expect(&fixture, "/open", 200, None).await;
        assert_eq!(
            fixture.api.count(),
            1,
            "{behaviour:?}: a required request was released"
        );
        expect(&fixture, "/required", 200, None).await;
        fixture.api.reset();
        // The filter logs a failure once per tick.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    server.kill();
    expect(&fixture, "/required", 503, UNAVAILABLE).await;
    assert_eq!(fixture.api.count(), 0);
    server.restart().unwrap();
    let deadline = Instant::now() + DEADLINE;
    loop {
        let request = Request::get("/required").api_key("SECRET-key");
        let response = request.send(&client(Version::Http1), &fixture).await;
        if response.status == 200 {
            break;
        }
        assert!(Instant::now() < deadline, "the filter does not recover");
    }
    until("the statistics", || {
        fixture.decision_count("required.audit_unavailable") >= 12
    })
    .await;
    for status in ["401", "403", "404", "400", "500"] {
        until(status, || stat(&fixture, &format!("refused.{status}")) >= 1).await;
    }
    for word in [
        "does not accept this gate",
        "has no audit log",
        "did not confirm any events",
    ] {
        assert!(fixture.envoy.log().contains(word), "{word}");
    }
    fixture.assert_healthy("failures");
}

#[tokio::test]
async fn a_required_request_waits_for_the_audit_response() {
    let (fixture, server) = start(&json!({}), 1);
    server.set_behaviour(AuditBehaviour::Delay(Duration::from_millis(300)));
    let client = client(Version::Http1);
    let body = "x".repeat(100_000);
    let request = Request::post("/required", body.clone()).api_key("SECRET-key");
    let response = async { request.send(&client, &fixture).await };
    let watch = async {
        until("the admission", || !server.requests().is_empty()).await;
        assert_eq!(fixture.api.count(), 0, "released before the event is durable");
    };
    let (response, ()) = tokio::join!(response, watch);
    response.expect(200, None, "a delayed audit response");
    assert_eq!(fixture.api.requests()[0].body.as_deref(), Some(body.as_bytes()));
    let admissions = durable_events(&server, "admission");
    assert_eq!(admissions[0]["decision"], "allowed");
    assert_eq!(admissions[0].get("status"), None);
    fixture.assert_healthy("delayed");
}

#[tokio::test]
async fn the_admission_follows_the_other_checks_of_a_request() {
    let idp = IdentityProvider::start().unwrap();
    idp.set_behaviour(JwksBehaviour::Slow(Duration::from_millis(700)));
    let token = idp.mint(
        Alg::Es256,
        &tokens::claims("https://remote.example", "a", "ana", 600),
    );
    let (fixture, server) = start_with(&json!({}), 1, idp);
    let client = client(Version::Http1);
    for (case, request) in [
        ("keys", Request::get("/token").bearer(&token)),
        ("cached keys", Request::get("/token").bearer(&token)),
        (
            "a body",
            Request::post("/hook", "body").header("x-hub-signature-256", sign::github("SECRET-hook", "body")),
        ),
        (
            "an empty signed body",
            Request::get("/hook").header("x-hub-signature-256", sign::github("SECRET-hook", "")),
        ),
    ] {
        request.send(&client, &fixture).await.expect(200, None, case);
    }
    assert_eq!(durable_events(&server, "admission").len(), 4);
    assert_eq!(fixture.api.count(), 4);
    let events = request_events(&server, 4).await;
    assert!(events.iter().any(|event| event["subject"] == "ana"), "{events:?}");
    fixture.assert_healthy("other checks");
}

#[tokio::test]
async fn calls_to_the_host_carry_the_token_and_the_trace() {
    let (fixture, server) = start(&json!({}), 1);
    let client = client(Version::Http1);
    for (path, sent) in [
        ("/required", PARENT),
        ("/required", "SECRET"),
        ("/waived", PARENT),
    ] {
        let request = Request::get(path)
            .api_key("SECRET-key")
            .header("traceparent", sent);
        let request = request.header("tracestate", "a=1");
        request.send(&client, &fixture).await;
    }
    let admissions: Vec<AuditRequest> = server
        .requests()
        .into_iter()
        .filter(|request| request.events[0]["kind"] == "admission")
        .collect();
    assert_eq!(admissions.len(), 2);
    assert_eq!(admissions[0].header("traceparent"), Some(PARENT));
    assert_eq!(admissions[0].header("tracestate"), Some("a=1"));
    assert_eq!(admissions[1].header("traceparent"), None);
    assert_eq!(admissions[1].header("tracestate"), None);
    let checks = server.check_headers();
    assert_eq!(checks.len(), 1);
    let bearer = format!("Bearer {TOKEN}");
    for (name, value) in [
        ("authorization", bearer.as_str()),
        ("traceparent", PARENT),
        ("tracestate", "a=1"),
    ] {
        let values: Vec<_> = checks[0].get_all(name).iter().collect();
        assert_eq!(values, [value], "{name}");
    }
    fixture.assert_healthy("trace");
}

#[tokio::test]
async fn events_of_an_outage_are_delivered_once_afterwards() {
    let (fixture, mut server) = start(&json!({"batch": 4}), 2);
    server.set_behaviour(AuditBehaviour::Status(500));
    for _ in 0..10 {
        expect(&fixture, "/keyed", 200, None).await;
    }
    until("a failed attempt", || server.requests().len() >= 3).await;
    server.kill();
    for _ in 0..10 {
        expect(&fixture, "/keyed", 200, None).await;
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    server.set_behaviour(AuditBehaviour::Durable);
    server.restart().unwrap();
    request_events(&server, 20).await;
    let mut by_id: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in server.requests().iter().flat_map(|request| &request.events) {
        by_id
            .entry(event["id"].to_string())
            .or_default()
            .insert(event.to_string());
    }
    assert_eq!(by_id.len(), 20, "a retry keeps the ids");
    assert!(
        by_id.values().all(|versions| versions.len() == 1),
        "a retry keeps the content: {by_id:?}"
    );
    assert!(server.requests().iter().all(|request| request.events.len() <= 4));
    until("the statistics", || stat(&fixture, "acknowledged") == 20).await;
    assert!(stat(&fixture, "retried") > 0 && stat(&fixture, "refused.503") > 0);
    assert_eq!(stat(&fixture, "lost"), 0);
    fixture.assert_healthy("outage");
}

#[tokio::test]
async fn a_retry_after_a_lost_response_makes_no_second_event() {
    let (fixture, server) = start(&json!({}), 1);
    server.set_behaviour(AuditBehaviour::Body("{\"durable\": 0}"));
    expect(&fixture, "/open", 200, None).await;
    until("a failed attempt", || server.requests().len() >= 2).await;
    server.set_behaviour(AuditBehaviour::Durable);
    request_events(&server, 1).await;
    let ids: BTreeSet<String> = server
        .requests()
        .iter()
        .flat_map(|request| &request.events)
        .map(|event| event["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1);
    fixture.assert_healthy("retry");
}

#[tokio::test]
async fn events_dropped_from_a_full_buffer_are_counted_and_reported() {
    let (fixture, server) = start(&json!({"buffer": 10, "batch": 10}), 1);
    server.set_behaviour(AuditBehaviour::Status(500));
    for _ in 0..30 {
        expect(&fixture, "/open", 200, None).await;
    }
    until("the statistics", || stat(&fixture, "lost") == 20).await;
    server.set_behaviour(AuditBehaviour::Durable);
    until("the lost event", || !durable_events(&server, "lost").is_empty()).await;
    assert_eq!(request_events(&server, 10).await.len(), 10);
    let lost = durable_events(&server, "lost");
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0]["detail"]["count"], 20);
    expect(&fixture, "/open", 200, None).await;
    request_events(&server, 11).await;
    assert_eq!(durable_events(&server, "lost").len(), 1, "reported once");
    fixture.assert_healthy("lost");
}

#[tokio::test]
async fn requests_of_disconnected_clients_are_recorded() {
    let (fixture, server) = start(&json!({}), 1);
    server.set_behaviour(AuditBehaviour::Delay(Duration::from_millis(400)));
    for _ in 0..5 {
        let mut connection = Http1Connection::open(fixture.envoy.addr()).await;
        connection
            .write(b"GET /required HTTP/1.1\r\nhost: a\r\nx-api-key: SECRET-key\r\n\r\n")
            .await;
        until("the admission", || !server.requests().is_empty()).await;
        drop(connection);
        server.reset();
    }
    // Their events, without a response, are recorded like all others.
    server.set_behaviour(AuditBehaviour::Durable);
    expect(&fixture, "/required", 200, None).await;
    until("the last event", || {
        durable_events(&server, "request")
            .iter()
            .any(|event| event["decision"] == "allowed")
    })
    .await;
    assert_eq!(
        fixture.api.count(),
        1,
        "no request of a disconnected client was released"
    );
    fixture.assert_healthy("disconnected");
}

#[tokio::test]
async fn events_contain_no_secrets() {
    let (fixture, server) = start(&json!({}), 1);
    let client = client(Version::Http1);
    let requests = [
        Request::get("/open?token=SECRET&SECRET&a=1;b=SECRET"),
        Request::get("/open;sid=SECRET").header("cookie", "sid=SECRET"),
        Request::get("/keyed?SECRET").api_key("SECRET-key"),
        Request::get("/keyed")
            .api_key("SECRET-wrong")
            .header("authorization", "Basic SECRET"),
        Request::get("/token").bearer("SECRET"),
        Request::post("/hook", "SECRET").header("x-hub-signature-256", "sha256=SECRET"),
        Request::post("/hook", "SECRET").header("x-hub-signature-256", sign::github("SECRET-hook", "SECRET")),
        Request::post("/required?key=SECRET", "SECRET")
            .api_key("SECRET-key")
            .header("referer", "http://SECRET"),
        Request::get("/policy?SECRET=")
            .header("x-postern-subject", "SECRET")
            .header("user-agent", "SECRET"),
    ];
    let count = requests.len();
    for request in requests {
        request.send(&client, &fixture).await;
    }
    request_events(&server, count).await;
    for request in server.requests() {
        assert!(!request.body.contains("SECRET"), "{}", request.body);
        let mut headers = request.headers.clone();
        headers.remove("authorization");
        assert!(!format!("{headers:?}").contains("SECRET"), "{headers:?}");
        assert!(!request.body.contains(TOKEN));
    }
    assert!(!fixture.envoy.log().contains("SECRET"));
    fixture.assert_healthy("secrets");
}

#[tokio::test]
async fn a_required_admission_adds_little_latency() {
    let (fixture, _peer) = start(&json!({}), 1);
    let client = client(Version::Http1);
    let mut medians = Vec::new();
    for path in ["/keyed", "/required"] {
        let mut times = Vec::new();
        for _ in 0..200 {
            let started = Instant::now();
            let request = Request::get(path).api_key("SECRET-key");
            request.send(&client, &fixture).await.expect(200, None, path);
            times.push(started.elapsed());
        }
        times.sort_unstable();
        medians.push(times[100]);
    }
    let added = medians[1].saturating_sub(medians[0]);
    println!("medians {medians:?}, added {added:?}");
    assert!(added < Duration::from_millis(20), "{added:?}");
}

/// Envoy reads its listener from a file, and removes the old one a second after the file is replaced.
#[tokio::test]
async fn a_replaced_listener_leaves_its_events_to_the_next() {
    let (idp, api, server) = (
        IdentityProvider::start().unwrap(),
        SampleApi::start().unwrap(),
        AuditServer::start().unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("listeners.json");
    let bootstrap = setup(&json!({}), 1, &server).inline_bootstrap(&idp, &api);
    let mut bootstrap: Value = serde_saphyr::from_str(&bootstrap).unwrap();
    let resources = bootstrap["static_resources"].as_object_mut().unwrap();
    let mut listener = resources.remove("listeners").unwrap()[0].clone();
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    std::fs::write(&file, json!({"resources": [listener]}).to_string()).unwrap();
    bootstrap["dynamic_resources"]["lds_config"] = json!({
        "resource_api_version": "V3", "path_config_source": {"path": file},
    });
    let started = Envoy::builder(envoy_with_short_drain(folder.path()), bootstrap.to_string())
        .concurrency(1)
        .env("TOKEN", TOKEN)
        .env("HOOK", "SECRET-hook")
        .start();
    let envoy = started.unwrap_or_else(|error| panic!("{error}"));
    let fixture = Fixture { envoy, idp, api };

    server.set_behaviour(AuditBehaviour::Status(500));
    expect(&fixture, "/open", 200, None).await;
    until("a failed attempt", || !server.requests().is_empty()).await;
    let before = configurations(&fixture);
    replace_listener(&file);
    until("replaced", || configurations(&fixture) > before).await;
    let draining = || {
        ["listeners", "filter_chains"].map(|what| {
            let name = format!("listener_manager.total_{what}_draining");
            fixture.envoy.stat(&name).unwrap_or_default()
        })
    };
    until("drained", || draining() == [0, 0]).await;
    // The workers release the old listener within this time.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    server.reset();
    server.set_behaviour(AuditBehaviour::Durable);
    request_events(&server, 1).await;
    expect(&fixture, "/open", 200, None).await;
    request_events(&server, 2).await;
    fixture.assert_healthy("replaced");
}

/// As above for the watched file of the filter, where nothing is drained.
#[tokio::test]
async fn a_replaced_gate_leaves_its_events_to_the_next() {
    let server = AuditServer::start().unwrap();
    let fixture = setup(&json!({}), 1, &server).start();
    server.set_behaviour(AuditBehaviour::Status(500));
    expect(&fixture, "/open", 200, None).await;
    until("a failed attempt", || !server.requests().is_empty()).await;
    let before = configurations(&fixture);
    fixture.publish_filter(&setup(&json!({"flush": "300ms"}), 1, &server).filter());
    until("replaced", || configurations(&fixture) > before).await;
    server.reset();
    server.set_behaviour(AuditBehaviour::Durable);
    request_events(&server, 1).await;
    expect(&fixture, "/open", 200, None).await;
    request_events(&server, 2).await;
    fixture.assert_healthy("replaced");
}

/// The number of configurations that the filter logged. Each is logged by the main thread and by each worker.
fn configurations(fixture: &Fixture) -> usize {
    fixture.envoy.log().matches("postern: configured with").count()
}

/// Changes the audit settings in the file of the listener.
fn replace_listener(file: &Path) {
    let text = std::fs::read_to_string(file).unwrap();
    let changed = text.replacen(
        "\\\"audit\\\":{}",
        "\\\"audit\\\":{\\\"flush\\\":\\\"300ms\\\"}",
        1,
    );
    assert_ne!(text, changed);
    // Envoy reloads when a file is renamed to the watched path.
    let new = file.with_extension("new");
    std::fs::write(&new, changed).unwrap();
    std::fs::rename(&new, file).unwrap();
}

/// A script that runs Envoy with a drain time of 1 s; by default the connections of an old listener drain for ten
/// minutes.
fn envoy_with_short_drain(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let envoy = envoy::binary().unwrap_or_else(|error| panic!("{error}"));
    let script = folder.join("envoy");
    let text = format!(
        "#!/bin/sh\nexec '{}' \"$@\" --drain-time-s 1 --drain-strategy immediate\n",
        envoy.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}
