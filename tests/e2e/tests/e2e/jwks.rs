//! Fetched JWK sets: requests waiting for them, outages, rotations, floods of unknown key ids, stale keys.

use std::time::{Duration, Instant};

use postern_e2e::{Fixture, Request, Response, Setup, Version, client};
use postern_testbed::idp::{Alg, IdentityProvider, JwksBehaviour};
use postern_testbed::keys::KeySet;
use postern_testbed::{sign, tokens};
use serde_json::{Value, json};
use tokio::time::sleep;

const REMOTE: &str = "https://remote.example";
const INLINE: &str = "https://inline.example";

/// An issuer whose keys are fetched on this schedule, an issuer with inline keys, and an API key.
fn gate(schedule: &Value, inline: &KeySet) -> Value {
    let mut jwks = json!({"uri": "http://idp.example/.well-known/jwks.json", "cluster": "idp"});
    let object = jwks.as_object_mut().unwrap();
    object.extend(schedule.as_object().unwrap().clone());
    let inline: Value = serde_json::from_str(&inline.jwks_json()).unwrap();
    json!({
        "issuers": {
            "remote": {"issuer": REMOTE, "audiences": ["a"], "algorithms": ["RS256", "ES256"], "jwks": jwks},
            "inline": {"issuer": INLINE, "audiences": ["a"], "algorithms": ["ES256"], "jwks": {"inline": inline}},
        },
        "api_keys": {"agents": {"keys": [{"id": "ci", "digest": sign::api_key_digest("key")}]}},
        "rules": [{"name": "all", "authenticate": {"any": ["issuers/remote", "issuers/inline", "api_keys/agents"]}}],
    })
}

fn token(keys: &KeySet, issuer: &str, subject: &str) -> String {
    keys.mint(Alg::Es256, &tokens::claims(issuer, "a", subject, 3600))
}

async fn get(client: &reqwest::Client, fixture: &Fixture, token: &str) -> Response {
    Request::get("/x").bearer(token).send(client, fixture).await
}

/// Repeats the request until its response has this status, on a new connection each time to reach every worker.
async fn until(status: u16, fixture: &Fixture, token: &str, limit: Duration) -> Response {
    let deadline = Instant::now() + limit;
    loop {
        let response = get(&client(Version::Http1), fixture, token).await;
        if response.status == status {
            return response;
        }
        assert!(
            Instant::now() < deadline,
            "no {status} within {limit:?}: {response:?}"
        );
        sleep(Duration::from_millis(100)).await;
    }
}

/// Sends concurrent requests on separate connections.
async fn send_all(fixture: &Fixture, tokens: &[String]) -> Vec<Response> {
    let client = client(Version::Http1);
    let mut responses = Vec::new();
    let requests: Vec<_> = tokens
        .iter()
        .map(|token| Request::get("/x").bearer(token))
        .collect();
    let pending: Vec<_> = requests
        .into_iter()
        .map(|request| {
            let (client, url) = (client.clone(), fixture.envoy.url(""));
            tokio::spawn(async move { request.send_to(&client, &url).await })
        })
        .collect();
    for response in pending {
        responses.push(response.await.unwrap().unwrap());
    }
    responses
}

#[tokio::test]
async fn requests_wait_for_keys_that_all_workers_fetch_once() {
    let idp = IdentityProvider::start().unwrap();
    idp.set_behaviour(JwksBehaviour::Hang);
    let inline = KeySet::generate().unwrap();
    let fixture = Setup::new(gate(&json!({"timeout": "1s", "cooldown": "1s"}), &inline))
        .workers(2)
        .start_with(idp);
    let tokens: Vec<_> = (0..12)
        .map(|n| token(&fixture.idp.keys(), REMOTE, &format!("s{n}")))
        .collect();
    // The first fetch hangs and times out after a second; the next one succeeds.
    let started = Instant::now();
    let (responses, ()) = tokio::join!(send_all(&fixture, &tokens), async {
        sleep(Duration::from_millis(300)).await;
        fixture.idp.set_behaviour(JwksBehaviour::Ok);
    });
    let passed = responses.iter().filter(|response| response.status == 200).count();
    let refused = responses
        .iter()
        .filter(|response| response.status_and_code() == (503, Some("keys_unavailable".to_owned())))
        .count();
    assert_eq!(passed + refused, 12, "{responses:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    until(200, &fixture, &tokens[0], Duration::from_secs(5)).await;
    assert!(fixture.idp.fetches() <= 3, "{} fetches", fixture.idp.fetches());
    fixture.assert_healthy("a hanging fetch");
}

#[tokio::test]
async fn a_slow_provider_delays_the_first_requests_and_refuses_none() {
    let idp = IdentityProvider::start().unwrap();
    idp.set_behaviour(JwksBehaviour::Slow(Duration::from_millis(800)));
    let inline = KeySet::generate().unwrap();
    let fixture = Setup::new(gate(&json!({}), &inline)).workers(2).start_with(idp);
    let tokens: Vec<_> = (0..12)
        .map(|n| token(&fixture.idp.keys(), REMOTE, &format!("s{n}")))
        .collect();
    for response in send_all(&fixture, &tokens).await {
        response.expect(200, None, "a request that waited for keys");
    }
    assert_eq!(fixture.idp.fetches(), 1, "the workers share one fetch");
    fixture.assert_healthy("a slow fetch");
}

/// The update discards the configuration that started the fetch.
#[tokio::test]
async fn an_update_during_a_fetch_refuses_no_request() {
    let idp = IdentityProvider::start().unwrap();
    idp.set_behaviour(JwksBehaviour::Slow(Duration::from_millis(1500)));
    let gate = gate(&json!({}), &KeySet::generate().unwrap());
    let setup = Setup::new(gate.clone()).workers(2);
    let fixture = setup.clone().start_with(idp);
    let mut renamed = gate;
    renamed["rules"][0]["name"] = json!("every");
    fixture.publish_filter(&setup.gate(renamed).filter());
    let tokens: Vec<_> = (0..12)
        .map(|n| token(&fixture.idp.keys(), REMOTE, &format!("s{n}")))
        .collect();
    for response in send_all(&fixture, &tokens).await {
        response.expect(200, None, "a request that waited for keys");
    }
    fixture.assert_healthy("an update during a fetch");
}

#[tokio::test]
async fn an_outage_of_a_provider_affects_only_its_own_tokens() {
    for behaviour in [
        JwksBehaviour::Down500,
        JwksBehaviour::Garbage,
        JwksBehaviour::Hang,
    ] {
        let idp = IdentityProvider::start().unwrap();
        idp.set_behaviour(behaviour);
        let inline = KeySet::generate().unwrap();
        let schedule = json!({"timeout": "1s", "cooldown": "1s"});
        let fixture = Setup::new(gate(&schedule, &inline)).workers(2).start_with(idp);
        let client = client(Version::Http1);
        let remote = token(&fixture.idp.keys(), REMOTE, "alice");
        let response = until(503, &fixture, &remote, Duration::from_secs(8)).await;
        response.expect(503, Some("keys_unavailable"), &format!("{behaviour:?}"));
        assert_eq!(response.header("retry-after"), Some("1"), "{behaviour:?}");
        let other = get(&client, &fixture, &token(&inline, INLINE, "bob")).await;
        other.expect(200, None, &format!("{behaviour:?}: the other issuer"));
        let by_key = Request::get("/x").api_key("key").send(&client, &fixture).await;
        by_key.expect(200, None, &format!("{behaviour:?}: an API key"));
        // A forged token of the issuer is not admitted either.
        let forged = get(&client, &fixture, &tokens::tamper(&remote)).await;
        assert_eq!(forged.status, 503, "{behaviour:?}");

        fixture.idp.set_behaviour(JwksBehaviour::Ok);
        until(200, &fixture, &remote, Duration::from_secs(8)).await;
        fixture.assert_healthy("down");
    }
}

#[tokio::test]
async fn valid_tokens_pass_through_a_rotation_a_flood_of_unknown_keys_and_an_outage() {
    let inline = KeySet::generate().unwrap();
    let fixture = Setup::new(gate(&json!({"cooldown": "1s", "timeout": "1s"}), &inline))
        .workers(2)
        .start();
    let old = fixture.idp.keys();
    let first = token(&old, REMOTE, "alice");
    until(200, &fixture, &first, Duration::from_secs(5)).await;
    assert_eq!(fixture.idp.fetches(), 1);

    // Rotation: one fetch for all tokens of the new key, and the old key is dropped.
    sleep(Duration::from_millis(1_100)).await;
    fixture.idp.rotate();
    let rotated: Vec<_> = (0..8)
        .map(|n| token(&fixture.idp.keys(), REMOTE, &format!("s{n}")))
        .collect();
    for response in send_all(&fixture, &rotated).await {
        response.expect(200, None, "a token of the new key");
    }
    assert_eq!(fixture.idp.fetches(), 2, "one fetch for a new key");
    until(401, &fixture, &first, Duration::from_secs(2)).await;

    // A flood of unknown keys: fetches stay within the budget, and valid tokens keep passing.
    let fetched = fixture.idp.fetches();
    let started = Instant::now();
    let mut generation = 0;
    while started.elapsed() < Duration::from_secs(3) {
        let flood: Vec<_> = (0..40)
            .map(|_| {
                generation += 1;
                let header = json!({"alg": "ES256", "kid": format!("k{generation}")});
                tokens::assemble(&header, &tokens::claims(REMOTE, "a", "eve", 3600), &[1; 64])
            })
            .collect();
        for response in send_all(&fixture, &flood).await {
            response.expect(401, Some("token_invalid"), "an unknown key");
        }
        until(200, &fixture, &rotated[0], Duration::ZERO).await;
    }
    // A budget of ten, and one more per cooldown.
    let allowed = started.elapsed().as_secs() + 11;
    let fetches = fixture.idp.fetches() - fetched;
    assert!(
        fetches <= allowed,
        "{fetches} fetches in {:?} with {generation} unknown keys",
        started.elapsed()
    );

    // An outage: the cached keys stay in use, although an unknown key triggers a fetch.
    for behaviour in [
        JwksBehaviour::Down500,
        JwksBehaviour::Garbage,
        JwksBehaviour::Hang,
    ] {
        fixture.idp.set_behaviour(behaviour);
        sleep(Duration::from_millis(1_100)).await;
        let header = json!({"alg": "ES256", "kid": format!("{behaviour:?}")});
        let unknown = tokens::assemble(&header, &tokens::claims(REMOTE, "a", "eve", 3600), &[1; 64]);
        let response = get(&client(Version::Http1), &fixture, &unknown).await;
        response.expect(401, Some("token_invalid"), &format!("{behaviour:?}"));
        for n in 0..4 {
            let fresh = token(&fixture.idp.keys(), REMOTE, &format!("{behaviour:?}{n}"));
            until(200, &fixture, &fresh, Duration::ZERO).await;
        }
    }
    fixture.assert_healthy("rotation");
}

#[tokio::test]
async fn keys_older_than_max_stale_are_not_used() {
    let inline = KeySet::generate().unwrap();
    let schedule = json!({"refresh": "1s", "cooldown": "1s", "timeout": "1s", "max_stale": "3s"});
    let fixture = Setup::new(gate(&schedule, &inline)).workers(2).start();
    let remote = token(&fixture.idp.keys(), REMOTE, "alice");
    until(200, &fixture, &remote, Duration::from_secs(5)).await;
    // While the provider is up, one worker refreshes the keys and they do not become stale.
    let before = fixture.idp.fetches();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        until(200, &fixture, &remote, Duration::ZERO).await;
        sleep(Duration::from_millis(200)).await;
    }
    let fetches = fixture.idp.fetches() - before;
    assert!((2..=5).contains(&fetches), "{fetches} refreshes in 4 s");

    fixture.idp.set_behaviour(JwksBehaviour::Down500);
    let down = Instant::now();
    until(200, &fixture, &remote, Duration::ZERO).await;
    let response = until(503, &fixture, &remote, Duration::from_secs(6)).await;
    response.expect(503, Some("keys_unavailable"), "stale keys");
    // The last refresh was at most a second and a tick before the outage.
    assert!(
        down.elapsed() > Duration::from_millis(1_500),
        "{:?}",
        down.elapsed()
    );
    until(200, &fixture, &token(&inline, INLINE, "bob"), Duration::ZERO).await;
    fixture.idp.set_behaviour(JwksBehaviour::Ok);
    until(200, &fixture, &remote, Duration::from_secs(5)).await;
    fixture.assert_healthy("stale");
}

/// A provider that truncates its responses until the flag is set.
fn truncating_provider(keys: String) -> (u16, std::sync::Arc<std::sync::atomic::AtomicBool>) {
    use std::io::{Read, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let complete = Arc::new(AtomicBool::new(false));
    let serve = Arc::clone(&complete);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let body = if serve.load(Ordering::Relaxed) {
                &keys
            } else {
                "{\"keys\":["
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                keys.len()
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    (port, complete)
}

#[tokio::test]
async fn a_truncated_response_is_a_failed_fetch() {
    let idp = IdentityProvider::start().unwrap();
    let good = token(&idp.keys(), REMOTE, "alice");
    let (port, complete) = truncating_provider(idp.jwks_json());
    let inline = KeySet::generate().unwrap();
    let fixture = Setup::new(gate(&json!({"timeout": "1s", "cooldown": "1s"}), &inline))
        .replace("{{IDP_PORT}}", port.to_string())
        .start_with(idp);
    let refused = until(503, &fixture, &good, Duration::from_secs(10)).await;
    assert_eq!(
        refused.status_and_code(),
        (503, Some("keys_unavailable".to_owned()))
    );
    let other = Request::get("/x")
        .api_key("key")
        .send(&client(Version::Http1), &fixture)
        .await;
    assert_eq!(other.status, 200, "the VM still runs: {other:?}");
    fixture.assert_no_panic("truncated");
    complete.store(true, std::sync::atomic::Ordering::Relaxed);
    until(200, &fixture, &good, Duration::from_secs(10)).await;
}

#[tokio::test]
async fn issuers_that_share_a_key_set_do_not_share_its_failures() {
    let idp = IdentityProvider::start().unwrap();
    let good = token(&idp.keys(), REMOTE, "alice");
    let jwks = json!({"uri": "http://idp.example/.well-known/jwks.json", "cluster": "idp", "cooldown": "1s"});
    let issuer = |iss: &str, algorithm: &str| json!({"issuer": iss, "audiences": ["a"], "algorithms": [algorithm], "jwks": jwks});
    // `a` sorts before `b`. Both fetch the set, each for itself.
    let gate = json!({
        "issuers": {"a": issuer("https://a.example", "PS256"), "b": issuer(REMOTE, "ES256")},
        "rules": [{"name": "all", "authenticate": {"any": ["issuers/a", "issuers/b"]}}],
    });
    let fixture = Setup::new(gate).workers(2).start_with(idp);
    until(200, &fixture, &good, Duration::from_secs(5)).await;
    fixture.assert_healthy("shared key set");
}
