//! Requests that wait for keys: thousands of them are answered without harm to the worker, and strangers among them do
//! not use up what the others wait for.

use std::time::Duration;

use postern_e2e::{Call, Fixture, Setup, Streams, Version, client};
use postern_testbed::idp::{Alg, IdentityProvider, Mode};
use postern_testbed::tokens;
use serde_json::{Value, json};
use tokio::time::sleep;

const ISSUER: &str = "https://remote.example";
/// Requests on one connection: Envoy allows no more at once.
const STREAMS: usize = 320;
/// Over 300 replies in one callback exhaust the stack of a VM.
const WAITING: usize = 5_000;

fn gate() -> Value {
    let jwks = json!({"uri": "http://idp.example/.well-known/jwks.json", "cluster": "idp", "timeout": "5s"});
    json!({
        "issuers": {"remote": {"issuer": ISSUER, "audiences": ["a"], "algorithms": ["ES256"], "jwks": jwks}},
        "rules": [{"name": "all", "authenticate": {"any": ["issuers/remote"]}}],
    })
}

/// As a stranger makes it: a key that nobody has, and no signature.
fn made_up(number: usize) -> String {
    let header = json!({"alg": "ES256", "kid": format!("made-up-{number}")});
    tokens::assemble(&header, &tokens::claims(ISSUER, "a", "eve", 3600), &[1; 64])
}

fn good(fixture: &Fixture, number: usize) -> String {
    let claims = tokens::claims(ISSUER, "a", &format!("s{number}"), 3600);
    fixture.idp.keys().mint(Alg::Es256, &claims)
}

async fn send(fixture: &Fixture, tokens: &[String]) -> Vec<Streams> {
    let mut connections = Vec::new();
    for tokens in tokens.chunks(STREAMS) {
        let mut streams = Streams::open(fixture.envoy.addr()).await;
        streams.get("/direct/x", tokens).await;
        connections.push(streams);
    }
    connections
}

async fn admitted(connections: Vec<Streams>) -> usize {
    let mut admitted = 0;
    for streams in connections {
        admitted += streams.admitted().await;
    }
    admitted
}

/// The keys that are held now are used.
async fn warm(fixture: &Fixture) {
    let answer = Call::get("/direct/x")
        .bearer(&good(fixture, 0))
        .send(&client(Version::Http1), fixture)
        .await;
    answer.expect(200, None, "a good token");
}

#[tokio::test]
async fn thousands_that_waited_in_vain_are_refused_and_the_worker_lives() {
    let idp = IdentityProvider::start().unwrap();
    idp.set_mode(Mode::Hang);
    let fixture = Setup::new(gate()).start_with(idp);
    let tokens: Vec<String> = (0..WAITING).map(|n| good(&fixture, n)).collect();
    let connections = send(&fixture, &tokens).await;
    assert_eq!(admitted(connections).await, 0);
    fixture.expect_count("all.keys_unavailable", WAITING as u64);
    fixture.idp.set_mode(Mode::Ok);
    let client = client(Version::Http1);
    let mut attempts = 0;
    while Call::get("/direct/x")
        .bearer(&tokens[0])
        .send(&client, &fixture)
        .await
        .status
        != 200
    {
        attempts += 1;
        assert!(attempts < 100, "the keys come once the provider answers");
        sleep(Duration::from_millis(200)).await;
    }
    fixture.assert_sound("5,000 refused at once");
}

#[tokio::test]
async fn thousands_that_waited_for_keys_are_admitted() {
    let idp = IdentityProvider::start().unwrap();
    idp.set_mode(Mode::Slow(Duration::from_secs(2)));
    let fixture = Setup::new(gate()).workers(2).start_with(idp);
    let tokens: Vec<String> = (0..WAITING).map(|n| good(&fixture, n)).collect();
    let connections = send(&fixture, &tokens).await;
    assert_eq!(admitted(connections).await, WAITING);
    assert_eq!(fixture.idp.fetches(), 1);
    fixture.assert_sound("5,000 admitted at once");
}

#[tokio::test]
async fn made_up_keys_on_one_connection_harm_nobody() {
    let fixture = Setup::new(gate()).start();
    warm(&fixture).await;
    fixture.idp.set_mode(Mode::Slow(Duration::from_secs(1)));
    let tokens: Vec<String> = (0..STREAMS).map(made_up).collect();
    assert_eq!(admitted(send(&fixture, &tokens).await).await, 0);
    fixture.expect_count("all.token_key_unknown", STREAMS as u64);
    warm(&fixture).await;
    fixture.assert_sound("320 made-up keys");
}

/// A stranger had the keys fetched a moment ago; that does not delay what a rotation needs. Nor does a fetch that began
/// before the keys were published.
#[tokio::test]
async fn every_good_token_passes_at_a_rotation() {
    const GOOD: usize = 3_000;
    let fixture = Setup::new(gate()).workers(2).start();
    warm(&fixture).await;
    assert_eq!(admitted(send(&fixture, &[made_up(0)]).await).await, 0);
    // This fetch is under way when the keys rotate, and brings the old ones.
    fixture.idp.set_mode(Mode::Slow(Duration::from_secs(1)));
    let stranger = send(&fixture, &[made_up(1)]).await;
    sleep(Duration::from_millis(500)).await;
    fixture.idp.set_mode(Mode::Ok);
    fixture.idp.rotate();
    let tokens: Vec<String> = (0..GOOD).map(|n| good(&fixture, n)).collect();
    assert_eq!(admitted(send(&fixture, &tokens).await).await, GOOD);
    assert_eq!(admitted(stranger).await, 0);
    fixture.assert_sound("a rotation");
}

/// Fetches that take longer than `refresh` follow one another without a pause. A request waits for the first that began
/// after it came, and not for one after another.
#[tokio::test]
async fn nobody_waits_for_one_fetch_after_another() {
    let mut gate = gate();
    gate["issuers"]["remote"]["jwks"]["refresh"] = json!("1s");
    gate["issuers"]["remote"]["jwks"]["cooldown"] = json!("1s");
    gate["issuers"]["remote"]["jwks"]["timeout"] = json!("2s");
    let fixture = Setup::new(gate).workers(2).start();
    warm(&fixture).await;
    fixture.idp.set_mode(Mode::Slow(Duration::from_millis(1_200)));
    sleep(Duration::from_secs(2)).await;
    for number in 0..4 {
        let begun = std::time::Instant::now();
        let answer = Call::get("/direct/x")
            .bearer(&made_up(number))
            .send(&client(Version::Http1), &fixture)
            .await;
        answer.expect(401, Some("token_invalid"), "a made-up key");
        // The fetch under way, and the one after it; four times that is allowed for a slow machine.
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(10), "{waited:?}");
        sleep(Duration::from_millis(300)).await;
    }
    fixture.assert_sound("slow fetches");
}
