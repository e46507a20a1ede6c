//! What the audit log is told through a real Envoy: of every request once, of some before anything is released.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "for tests: what does not work ends the test"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use postern_e2e::{Call, Connection, Fixture, Setup, Version, client};
use postern_testbed::audit_peer::{Answer, AuditPeer, Told};
use postern_testbed::envoy::{self, Envoy};
use postern_testbed::idp::{Alg, IdentityProvider, Mode};
use postern_testbed::sample_api::SampleApi;
use postern_testbed::{sign, tokens};
use serde_json::{Value, json};

const TOKEN: &str = "t0k3n-of-the-gate";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Far beyond what an event needs to arrive: a tick, the flush, and the longest wait between two attempts.
const PATIENCE: Duration = Duration::from_secs(15);

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

fn start(audit: &Value, workers: u32) -> (Fixture, AuditPeer) {
    start_with(audit, workers, IdentityProvider::start().unwrap())
}

fn start_with(audit: &Value, workers: u32, idp: IdentityProvider) -> (Fixture, AuditPeer) {
    let peer = AuditPeer::start().unwrap();
    (setup(audit, workers, &peer).start_with(idp), peer)
}

fn setup(audit: &Value, workers: u32, peer: &AuditPeer) -> Setup {
    let setup = Setup::new(gate(audit)).workers(workers);
    let setup = setup.env("TOKEN", TOKEN).env("HOOK", "SECRET-hook");
    let setup = setup.change("node: {id: demo,", "node: {id: edge-1,");
    setup.policy_host(peer.addr())
}

/// Waits until something is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The durable events of a kind; never one of them twice.
fn events(peer: &AuditPeer, kind: &str) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    let mut events = peer.durable();
    events.retain(|event| event["kind"] == kind && seen.insert(event["id"].to_string()));
    events
}

/// Waits for so many `request` events, and a little longer for more of them.
async fn requests(peer: &AuditPeer, count: usize) -> Vec<Value> {
    until(
        &format!("{count} events: {:?}", events(peer, "request").len()),
        || events(peer, "request").len() >= count,
    )
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let events = events(peer, "request");
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
    let call = Call::get(path).api_key("SECRET-key");
    let answer = call.send(&client(Version::Http1), fixture).await;
    answer.expect(status, code, path);
}

const UNAVAILABLE: Option<&str> = Some("audit_unavailable");

#[tokio::test]
async fn every_request_is_told_once() {
    let (fixture, peer) = start(&json!({}), 2);
    let client = client(Version::Http1);
    let key = "SECRET-key";
    for (call, status) in [
        (Call::get("/open/%41?page=2&size=50"), 200),
        (Call::new("DELETE", "/keyed").api_key(key), 200),
        (Call::get("/keyed/none"), 401),
        (Call::get("/nowhere"), 403),
        (Call::get("/open//x"), 400),
        (Call::get("/policy"), 503),
        (Call::post("/required", "body").api_key(key), 200),
        (Call::get("/direct"), 200),
        (Call::get("/off"), 200),
    ] {
        let answer = call.send(&client, &fixture).await;
        assert_eq!(answer.status, status, "{call:?}");
    }
    let told = requests(&peer, 8).await;
    let lines: BTreeSet<String> = told.iter().map(line).collect();
    let wanted = [
        "GET /open/%41?page&size allowed - open 200 - - -",
        "DELETE /keyed allowed - keyed 200 ci acme -",
        "GET /keyed/none denied credentials_missing keyed 401 - - -",
        "GET /nowhere denied no_rule - 403 - - -",
        "GET /open//x denied path_ambiguous - 400 - - -",
        "GET /policy failed policy_failed policy 503 - - m",
        "POST /required allowed - required 200 ci acme -",
        "GET /direct allowed - direct 200 - - -",
    ];
    assert_eq!(lines, wanted.map(str::to_owned).into());
    for event in &told {
        let latency = event["latency_us"].as_u64();
        assert!(latency.is_some_and(|latency| latency < 20_000_000), "{event}");
        let (id, time) = (event["id"].as_str().unwrap(), event["time"].as_str().unwrap());
        assert!(id.len() == 36 && id.as_bytes()[14] == b'7', "{id}");
        assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
        assert_eq!(event["gateway"], "edge-1");
    }
    let admissions = events(&peer, "admission");
    assert_eq!(admissions.len(), 1, "{admissions:?}");
    let requests = fixture.api.requests();
    let released = requests.iter().find(|seen| seen.path == "/required").unwrap();
    let id = released.header("x-request-id");
    assert!(
        id.is_some() && admissions[0]["request_id"].as_str() == id,
        "{admissions:?}"
    );
    let call = &peer.told()[0];
    assert_eq!(format!("{:?}", call.version), "HTTP/2.0", "as the cluster speaks");
    assert_eq!(call.header("content-type"), Some("application/json"));
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(call.header("authorization"), Some(bearer.as_str()));
    until("counted", || stat(&fixture, "acknowledged") == 9).await;
    assert_eq!((stat(&fixture, "sent"), stat(&fixture, "lost")), (9, 0));
    assert!(!fixture.envoy.log().contains(TOKEN));
    fixture.assert_sound("told");
}

/// An event in a line: what is not told is `-`.
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
async fn nothing_is_released_that_the_log_does_not_hold() {
    let (fixture, mut peer) = start(&json!({}), 1);
    for answer in [
        Answer::Hang,
        Answer::Status(500),
        Answer::Status(503),
        Answer::Status(401),
        Answer::Status(403),
        Answer::Status(404),
        Answer::Status(400),
        Answer::Status(204),
        Answer::Body("{\"durable\": 0}"),
        Answer::Body("<html>"),
        Answer::Body(""),
    ] {
        peer.answer(answer.clone());
        let began = Instant::now();
        expect(&fixture, "/required", 503, UNAVAILABLE).await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(2), "{answer:?}: {took:?}");
        peer.answer(Answer::Durable);
        expect(&fixture, "/open", 200, None).await;
        assert_eq!(
            fixture.api.count(),
            1,
            "{answer:?}: only what is not required passed"
        );
        expect(&fixture, "/required", 200, None).await;
        fixture.api.reset();
        // What is wrong is logged once a tick.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    peer.kill();
    expect(&fixture, "/required", 503, UNAVAILABLE).await;
    assert_eq!(fixture.api.count(), 0);
    peer.restart().unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let call = Call::get("/required").api_key("SECRET-key");
        let answer = call.send(&client(Version::Http1), &fixture).await;
        if answer.status == 200 {
            break;
        }
        assert!(Instant::now() < deadline, "not found again");
    }
    until("counted", || fixture.decided("required.audit_unavailable") >= 12).await;
    for status in ["401", "403", "404", "400", "500"] {
        until(status, || stat(&fixture, &format!("refused.{status}")) >= 1).await;
    }
    for word in [
        "does not know this gate",
        "keeps no audit log",
        "without saying what is durable",
    ] {
        assert!(fixture.envoy.log().contains(word), "{word}");
    }
    fixture.assert_sound("refusals");
}

#[tokio::test]
async fn it_waits_for_the_word_and_no_longer() {
    let (fixture, peer) = start(&json!({}), 1);
    peer.answer(Answer::Late(Duration::from_millis(300)));
    let client = client(Version::Http1);
    let body = "x".repeat(100_000);
    let call = Call::post("/required", body.clone()).api_key("SECRET-key");
    let answer = async { call.send(&client, &fixture).await };
    let watch = async {
        until("the admission", || !peer.told().is_empty()).await;
        assert_eq!(fixture.api.count(), 0, "not before the log holds it");
    };
    let (answer, ()) = tokio::join!(answer, watch);
    answer.expect(200, None, "late");
    assert_eq!(fixture.api.requests()[0].body.as_deref(), Some(body.as_bytes()));
    let admissions = events(&peer, "admission");
    assert_eq!(admissions[0]["decision"], "allowed");
    assert_eq!(admissions[0].get("status"), None);
    fixture.assert_sound("late");
}

#[tokio::test]
async fn it_follows_whatever_else_a_request_waits_for() {
    let idp = IdentityProvider::start().unwrap();
    idp.set_mode(Mode::Slow(Duration::from_millis(700)));
    let token = idp.mint(
        Alg::Es256,
        &tokens::claims("https://remote.example", "a", "ana", 600),
    );
    let (fixture, peer) = start_with(&json!({}), 1, idp);
    let client = client(Version::Http1);
    for (case, call) in [
        ("keys", Call::get("/token").bearer(&token)),
        ("keys at hand", Call::get("/token").bearer(&token)),
        (
            "a body",
            Call::post("/hook", "body").header("x-hub-signature-256", sign::github("SECRET-hook", "body")),
        ),
        (
            "no signed body",
            Call::get("/hook").header("x-hub-signature-256", sign::github("SECRET-hook", "")),
        ),
    ] {
        call.send(&client, &fixture).await.expect(200, None, case);
    }
    assert_eq!(events(&peer, "admission").len(), 4);
    assert_eq!(fixture.api.count(), 4);
    let told = requests(&peer, 4).await;
    assert!(told.iter().any(|event| event["subject"] == "ana"), "{told:?}");
    fixture.assert_sound("followed");
}

#[tokio::test]
async fn calls_carry_the_token_and_the_trace() {
    let (fixture, peer) = start(&json!({}), 1);
    let client = client(Version::Http1);
    for (path, sent) in [
        ("/required", PARENT),
        ("/required", "SECRET"),
        ("/waived", PARENT),
    ] {
        let call = Call::get(path).api_key("SECRET-key").header("traceparent", sent);
        let call = call.header("tracestate", "a=1");
        call.send(&client, &fixture).await;
    }
    let admissions: Vec<Told> = peer
        .told()
        .into_iter()
        .filter(|told| told.events[0]["kind"] == "admission")
        .collect();
    assert_eq!(admissions.len(), 2);
    assert_eq!(admissions[0].header("traceparent"), Some(PARENT));
    assert_eq!(admissions[0].header("tracestate"), Some("a=1"));
    assert_eq!(admissions[1].header("traceparent"), None);
    assert_eq!(admissions[1].header("tracestate"), None);
    let asked = peer.asked();
    assert_eq!(asked.len(), 1);
    let bearer = format!("Bearer {TOKEN}");
    for (name, value) in [
        ("authorization", bearer.as_str()),
        ("traceparent", PARENT),
        ("tracestate", "a=1"),
    ] {
        let values: Vec<_> = asked[0].get_all(name).iter().collect();
        assert_eq!(values, [value], "{name}");
    }
    fixture.assert_sound("trace");
}

#[tokio::test]
async fn while_the_log_is_away_others_pass_and_each_is_told_later_once() {
    let (fixture, mut peer) = start(&json!({"batch": 4}), 2);
    peer.answer(Answer::Status(500));
    for _ in 0..10 {
        expect(&fixture, "/keyed", 200, None).await;
    }
    until("sent in vain", || peer.told().len() >= 3).await;
    peer.kill();
    for _ in 0..10 {
        expect(&fixture, "/keyed", 200, None).await;
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    peer.answer(Answer::Durable);
    peer.restart().unwrap();
    requests(&peer, 20).await;
    let mut by_id: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for event in peer.told().iter().flat_map(|told| &told.events) {
        by_id
            .entry(event["id"].to_string())
            .or_default()
            .insert(event.to_string());
    }
    assert_eq!(by_id.len(), 20, "told again under the same ids");
    assert!(
        by_id.values().all(|told| told.len() == 1),
        "and the same: {by_id:?}"
    );
    assert!(peer.told().iter().all(|told| told.events.len() <= 4));
    until("counted", || stat(&fixture, "acknowledged") == 20).await;
    assert!(stat(&fixture, "retried") > 0 && stat(&fixture, "refused.503") > 0);
    assert_eq!(stat(&fixture, "lost"), 0);
    fixture.assert_sound("away");
}

#[tokio::test]
async fn an_answer_that_is_lost_makes_no_second_event() {
    let (fixture, peer) = start(&json!({}), 1);
    peer.answer(Answer::Body("{\"durable\": 0}"));
    expect(&fixture, "/open", 200, None).await;
    until("sent in vain", || peer.told().len() >= 2).await;
    peer.answer(Answer::Durable);
    requests(&peer, 1).await;
    let ids: BTreeSet<String> = peer
        .told()
        .iter()
        .flat_map(|told| &told.events)
        .map(|event| event["id"].to_string())
        .collect();
    assert_eq!(ids.len(), 1);
    fixture.assert_sound("again");
}

#[tokio::test]
async fn what_there_is_no_room_for_is_counted_and_told() {
    let (fixture, peer) = start(&json!({"buffer": 10, "batch": 10}), 1);
    peer.answer(Answer::Status(500));
    for _ in 0..30 {
        expect(&fixture, "/open", 200, None).await;
    }
    until("counted", || stat(&fixture, "lost") == 20).await;
    peer.answer(Answer::Durable);
    until("told", || !events(&peer, "lost").is_empty()).await;
    assert_eq!(requests(&peer, 10).await.len(), 10);
    let lost = events(&peer, "lost");
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0]["detail"]["count"], 20);
    expect(&fixture, "/open", 200, None).await;
    requests(&peer, 11).await;
    assert_eq!(events(&peer, "lost").len(), 1, "told once");
    fixture.assert_sound("lost");
}

#[tokio::test]
async fn who_leaves_is_told_of_too() {
    let (fixture, peer) = start(&json!({}), 1);
    peer.answer(Answer::Late(Duration::from_millis(400)));
    for _ in 0..5 {
        let mut connection = Connection::open(fixture.envoy.addr()).await;
        connection
            .write(b"GET /required HTTP/1.1\r\nhost: a\r\nx-api-key: SECRET-key\r\n\r\n")
            .await;
        until("the admission", || !peer.told().is_empty()).await;
        drop(connection);
        peer.forget();
    }
    // What was refused to nobody is told of like the rest.
    peer.answer(Answer::Durable);
    expect(&fixture, "/required", 200, None).await;
    until("the last", || {
        events(&peer, "request")
            .iter()
            .any(|event| event["decision"] == "allowed")
    })
    .await;
    assert_eq!(fixture.api.count(), 1, "none of those who left was released");
    fixture.assert_sound("left");
}

#[tokio::test]
async fn no_secret_is_told() {
    let (fixture, peer) = start(&json!({}), 1);
    let client = client(Version::Http1);
    let calls = [
        Call::get("/open?token=SECRET&SECRET&a=1;b=SECRET"),
        Call::get("/open;sid=SECRET").header("cookie", "sid=SECRET"),
        Call::get("/keyed?SECRET").api_key("SECRET-key"),
        Call::get("/keyed")
            .api_key("SECRET-wrong")
            .header("authorization", "Basic SECRET"),
        Call::get("/token").bearer("SECRET"),
        Call::post("/hook", "SECRET").header("x-hub-signature-256", "sha256=SECRET"),
        Call::post("/hook", "SECRET").header("x-hub-signature-256", sign::github("SECRET-hook", "SECRET")),
        Call::post("/required?key=SECRET", "SECRET")
            .api_key("SECRET-key")
            .header("referer", "http://SECRET"),
        Call::get("/policy?SECRET=")
            .header("x-postern-subject", "SECRET")
            .header("user-agent", "SECRET"),
    ];
    let count = calls.len();
    for call in calls {
        call.send(&client, &fixture).await;
    }
    requests(&peer, count).await;
    for told in peer.told() {
        assert!(!told.body.contains("SECRET"), "{}", told.body);
        let mut headers = told.headers.clone();
        headers.remove("authorization");
        assert!(!format!("{headers:?}").contains("SECRET"), "{headers:?}");
        assert!(!told.body.contains(TOKEN));
    }
    assert!(!fixture.envoy.log().contains("SECRET"));
    fixture.assert_sound("secrets");
}

#[tokio::test]
async fn a_rule_that_requires_it_costs_little() {
    let (fixture, _peer) = start(&json!({}), 1);
    let client = client(Version::Http1);
    let mut medians = Vec::new();
    for path in ["/keyed", "/required"] {
        let mut times = Vec::new();
        for _ in 0..200 {
            let began = Instant::now();
            let call = Call::get(path).api_key("SECRET-key");
            call.send(&client, &fixture).await.expect(200, None, path);
            times.push(began.elapsed());
        }
        times.sort_unstable();
        medians.push(times[100]);
    }
    let added = medians[1].saturating_sub(medians[0]);
    println!("medians {medians:?}, added {added:?}");
    assert!(added < Duration::from_millis(20), "{added:?}");
}

/// Envoy takes its listener from a file, and gives up the old one a second after the file was replaced.
#[tokio::test]
async fn a_configuration_that_is_replaced_leaves_its_events_to_the_next() {
    let (idp, api, peer) = (
        IdentityProvider::start().unwrap(),
        SampleApi::start().unwrap(),
        AuditPeer::start().unwrap(),
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("listeners.json");
    let bootstrap = setup(&json!({}), 1, &peer).inline_bootstrap(&idp, &api);
    let mut bootstrap: Value = serde_saphyr::from_str(&bootstrap).unwrap();
    let resources = bootstrap["static_resources"].as_object_mut().unwrap();
    let mut listener = resources.remove("listeners").unwrap()[0].clone();
    listener["@type"] = json!("type.googleapis.com/envoy.config.listener.v3.Listener");
    std::fs::write(&file, json!({"resources": [listener]}).to_string()).unwrap();
    bootstrap["dynamic_resources"]["lds_config"] = json!({
        "resource_api_version": "V3", "path_config_source": {"path": file},
    });
    let started = Envoy::builder(impatient(folder.path()), bootstrap.to_string())
        .concurrency(1)
        .env("TOKEN", TOKEN)
        .env("HOOK", "SECRET-hook")
        .start();
    let envoy = started.unwrap_or_else(|error| panic!("{error}"));
    let fixture = Fixture { envoy, idp, api };

    peer.answer(Answer::Status(500));
    expect(&fixture, "/open", 200, None).await;
    until("sent in vain", || !peer.told().is_empty()).await;
    let before = configured(&fixture);
    replace(&file);
    until("replaced", || configured(&fixture) > before).await;
    let draining = || {
        ["listeners", "filter_chains"].map(|what| {
            let name = format!("listener_manager.total_{what}_draining");
            fixture.envoy.stat(&name).unwrap_or_default()
        })
    };
    until("drained", || draining() == [0, 0]).await;
    // Until the workers have let go of the old one.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    peer.forget();
    peer.answer(Answer::Durable);
    requests(&peer, 1).await;
    expect(&fixture, "/open", 200, None).await;
    requests(&peer, 2).await;
    fixture.assert_sound("replaced");
}

/// The same where Envoy watches the filter's file: there is nothing to drain.
#[tokio::test]
async fn a_gate_that_is_replaced_in_its_file_leaves_its_events_to_the_next() {
    let peer = AuditPeer::start().unwrap();
    let fixture = setup(&json!({}), 1, &peer).start();
    peer.answer(Answer::Status(500));
    expect(&fixture, "/open", 200, None).await;
    until("sent in vain", || !peer.told().is_empty()).await;
    let before = configured(&fixture);
    fixture.publish(&setup(&json!({"flush": "300ms"}), 1, &peer).filter());
    until("replaced", || configured(&fixture) > before).await;
    peer.forget();
    peer.answer(Answer::Durable);
    requests(&peer, 1).await;
    expect(&fixture, "/open", 200, None).await;
    requests(&peer, 2).await;
    fixture.assert_sound("replaced");
}

/// How often the filter took a configuration: once for the main thread, once for the worker, each time.
fn configured(fixture: &Fixture) -> usize {
    fixture.envoy.log().matches("postern: configured with").count()
}

/// Changes the gate in the listener's file.
fn replace(file: &Path) {
    let text = std::fs::read_to_string(file).unwrap();
    let changed = text.replacen(
        "\\\"audit\\\":{}",
        "\\\"audit\\\":{\\\"flush\\\":\\\"300ms\\\"}",
        1,
    );
    assert_ne!(text, changed);
    // Envoy looks when a file is moved there.
    let new = file.with_extension("new");
    std::fs::write(&new, changed).unwrap();
    std::fs::rename(&new, file).unwrap();
}

/// Envoy, which otherwise lets an old listener's connections end for ten minutes.
fn impatient(folder: &Path) -> PathBuf {
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
