//! Requests waiting for keys: thousands of them do not harm the worker, and unknown key ids of attackers do not delay
//! the fetches that valid tokens need.

use std::time::Duration;

use postern_e2e::{Fixture, Http2Connection, Request, Setup, Version, client};
use postern_testbed::idp::{Alg, IdentityProvider, JwksBehaviour};
use postern_testbed::tokens;
use serde_json::{Value, json};
use tokio::time::sleep;

const ISSUER: &str = "https://remote.example";
/// Concurrent requests on one connection, within what Envoy allows.
const STREAMS: usize = 320;
/// More than 300 local responses in one callback would exhaust the stack of a VM.
const WAITING: usize = 5_000;

fn gate() -> Value {
    let jwks = json!({"uri": "http://idp.example/.well-known/jwks.json", "cluster": "idp", "timeout": "5s"});
    json!({
        "issuers": {"remote": {"issuer": ISSUER, "audiences": ["a"], "algorithms": ["ES256"], "jwks": jwks}},
        "rules": [{"name": "all", "authenticate": {"any": ["issuers/remote"]}}],
    })
}

/// A token with an unknown key id and an invalid signature.
fn forged_token(number: usize) -> String {
    let header = json!({"alg": "ES256", "kid": format!("unknown-{number}")});
    tokens::assemble(&header, &tokens::claims(ISSUER, "a", "eve", 3600), &[1; 64])
}

fn valid_token(fixture: &Fixture, number: usize) -> String {
    let claims = tokens::claims(ISSUER, "a", &format!("s{number}"), 3600);
    fixture.idp.keys().mint(Alg::Es256, &claims)
}

async fn send(fixture: &Fixture, tokens: &[String]) -> Vec<Http2Connection> {
    let mut connections = Vec::new();
    for tokens in tokens.chunks(STREAMS) {
        let mut streams = Http2Connection::open(fixture.envoy.addr()).await;
        streams.get("/direct/x", tokens).await;
        connections.push(streams);
    }
    connections
}

async fn admitted(connections: Vec<Http2Connection>) -> usize {
    let mut admitted = 0;
    for streams in connections {
        admitted += streams.count_admitted().await;
    }
    admitted
}

/// # Panics
/// Unless a valid token is admitted.
async fn assert_valid_token_admitted(fixture: &Fixture) {
    let response = Request::get("/direct/x")
        .bearer(&valid_token(fixture, 0))
        .send(&client(Version::Http1), fixture)
        .await;
    response.expect(200, None, "a valid token");
}

#[tokio::test]
async fn thousands_of_requests_are_refused_at_once_without_harm_to_the_worker() {
    let idp = IdentityProvider::start().unwrap();
    idp.set_behaviour(JwksBehaviour::Hang);
    let fixture = Setup::new(gate()).start_with(idp);
    let tokens: Vec<String> = (0..WAITING).map(|n| valid_token(&fixture, n)).collect();
    let connections = send(&fixture, &tokens).await;
    assert_eq!(admitted(connections).await, 0);
    fixture.expect_count("all.keys_unavailable", WAITING as u64);
    fixture.idp.set_behaviour(JwksBehaviour::Ok);
    let client = client(Version::Http1);
    let mut attempts = 0;
    while Request::get("/direct/x")
        .bearer(&tokens[0])
        .send(&client, &fixture)
        .await
        .status
        != 200
    {
        attempts += 1;
        assert!(
            attempts < 100,
            "the keys are not fetched although the provider responds"
        );
        sleep(Duration::from_millis(200)).await;
    }
    fixture.assert_healthy("5,000 refused at once");
}

#[tokio::test]
async fn thousands_of_requests_that_waited_for_keys_are_admitted() {
    let idp = IdentityProvider::start().unwrap();
    idp.set_behaviour(JwksBehaviour::Slow(Duration::from_secs(2)));
    let fixture = Setup::new(gate()).workers(2).start_with(idp);
    let tokens: Vec<String> = (0..WAITING).map(|n| valid_token(&fixture, n)).collect();
    let connections = send(&fixture, &tokens).await;
    assert_eq!(admitted(connections).await, WAITING);
    assert_eq!(fixture.idp.fetches(), 1);
    fixture.assert_healthy("5,000 admitted at once");
}

#[tokio::test]
async fn forged_tokens_on_one_connection_affect_no_others() {
    let fixture = Setup::new(gate()).start();
    assert_valid_token_admitted(&fixture).await;
    fixture
        .idp
        .set_behaviour(JwksBehaviour::Slow(Duration::from_secs(1)));
    let tokens: Vec<String> = (0..STREAMS).map(forged_token).collect();
    assert_eq!(admitted(send(&fixture, &tokens).await).await, 0);
    fixture.expect_count("all.token_key_unknown", STREAMS as u64);
    assert_valid_token_admitted(&fixture).await;
    fixture.assert_healthy("320 unknown keys");
}

/// Neither a recent fetch caused by a forged token nor a fetch that started before the rotation delays the fetch that
/// the rotation needs.
#[tokio::test]
async fn every_valid_token_is_admitted_during_a_rotation() {
    const TOKENS: usize = 3_000;
    let fixture = Setup::new(gate()).workers(2).start();
    assert_valid_token_admitted(&fixture).await;
    assert_eq!(admitted(send(&fixture, &[forged_token(0)]).await).await, 0);
    // This fetch is in progress when the keys rotate, and returns the old ones.
    fixture
        .idp
        .set_behaviour(JwksBehaviour::Slow(Duration::from_secs(1)));
    let forged = send(&fixture, &[forged_token(1)]).await;
    sleep(Duration::from_millis(500)).await;
    fixture.idp.set_behaviour(JwksBehaviour::Ok);
    fixture.idp.rotate();
    let tokens: Vec<String> = (0..TOKENS).map(|n| valid_token(&fixture, n)).collect();
    assert_eq!(admitted(send(&fixture, &tokens).await).await, TOKENS);
    assert_eq!(admitted(forged).await, 0);
    fixture.assert_healthy("a rotation");
}

/// Fetches that take longer than `refresh` follow each other without a pause. A request waits only for the first one that
/// starts after it arrived.
#[tokio::test]
async fn a_request_waits_for_at_most_two_fetches() {
    let mut gate = gate();
    gate["issuers"]["remote"]["jwks"]["refresh"] = json!("1s");
    gate["issuers"]["remote"]["jwks"]["cooldown"] = json!("1s");
    gate["issuers"]["remote"]["jwks"]["timeout"] = json!("2s");
    let fixture = Setup::new(gate).workers(2).start();
    assert_valid_token_admitted(&fixture).await;
    fixture
        .idp
        .set_behaviour(JwksBehaviour::Slow(Duration::from_millis(1_200)));
    sleep(Duration::from_secs(2)).await;
    for number in 0..4 {
        let started = std::time::Instant::now();
        let response = Request::get("/direct/x")
            .bearer(&forged_token(number))
            .send(&client(Version::Http1), &fixture)
            .await;
        response.expect(401, Some("token_invalid"), "an unknown key");
        // The fetch in progress and the next one, with four times the time for slow machines.
        let waited = started.elapsed();
        assert!(waited < Duration::from_secs(10), "{waited:?}");
        sleep(Duration::from_millis(300)).await;
    }
    fixture.assert_healthy("slow fetches");
}
