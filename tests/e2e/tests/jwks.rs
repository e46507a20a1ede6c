//! Keys that are fetched: waited for, missing, rotated, flooded with unknown ids, outdated.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "for tests: what does not work ends the test"
)]

use std::time::{Duration, Instant};

use postern_e2e::{Answer, Call, Fixture, Setup, Version, client};
use postern_testbed::idp::{Alg, IdentityProvider, Mode};
use postern_testbed::keys::KeySet;
use postern_testbed::{sign, tokens};
use serde_json::{Value, json};
use tokio::time::sleep;

const REMOTE: &str = "https://remote.example";
const INLINE: &str = "https://inline.example";

/// Keys from the identity provider with this schedule, keys in the configuration, and an API key.
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

async fn get(client: &reqwest::Client, fixture: &Fixture, token: &str) -> Answer {
    Call::get("/x").bearer(token).send(client, fixture).await
}

/// Asks until the answer has that status, with a fresh connection each time so that every worker is asked.
async fn until(status: u16, fixture: &Fixture, token: &str, patience: Duration) -> Answer {
    let deadline = Instant::now() + patience;
    loop {
        let answer = get(&client(Version::Http1), fixture, token).await;
        if answer.status == status {
            return answer;
        }
        assert!(
            Instant::now() < deadline,
            "no {status} within {patience:?}: {answer:?}"
        );
        sleep(Duration::from_millis(100)).await;
    }
}

/// Requests on connections of their own, at once.
async fn at_once(fixture: &Fixture, tokens: &[String]) -> Vec<Answer> {
    let client = client(Version::Http1);
    let mut answers = Vec::new();
    let calls: Vec<_> = tokens.iter().map(|token| Call::get("/x").bearer(token)).collect();
    let pending: Vec<_> = calls
        .into_iter()
        .map(|call| {
            let (client, url) = (client.clone(), fixture.envoy.url(""));
            tokio::spawn(async move { call.send_to(&client, &url).await })
        })
        .collect();
    for answer in pending {
        answers.push(answer.await.unwrap().unwrap());
    }
    answers
}

#[tokio::test]
async fn keys_are_waited_for_and_fetched_once_for_all_workers() {
    let idp = IdentityProvider::start().unwrap();
    idp.set_mode(Mode::Hang);
    let inline = KeySet::generate().unwrap();
    let fixture = Setup::new(gate(&json!({"timeout": "1s", "cooldown": "1s"}), &inline))
        .workers(2)
        .start_with(idp);
    let tokens: Vec<_> = (0..12)
        .map(|n| token(&fixture.idp.keys(), REMOTE, &format!("s{n}")))
        .collect();
    // The first fetch hangs and is given up after a second; the one after it brings the keys.
    let started = Instant::now();
    let (answers, ()) = tokio::join!(at_once(&fixture, &tokens), async {
        sleep(Duration::from_millis(300)).await;
        fixture.idp.set_mode(Mode::Ok);
    });
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    let refused = answers
        .iter()
        .filter(|answer| answer.verdict() == (503, Some("keys_unavailable".to_owned())))
        .count();
    assert_eq!(passed + refused, 12, "{answers:?}");
    assert!(started.elapsed() < Duration::from_secs(5));
    until(200, &fixture, &tokens[0], Duration::from_secs(5)).await;
    assert!(fixture.idp.fetches() <= 3, "{} fetches", fixture.idp.fetches());
    fixture.assert_sound("hang");
}

#[tokio::test]
async fn a_slow_provider_delays_the_first_requests_and_refuses_none() {
    let idp = IdentityProvider::start().unwrap();
    idp.set_mode(Mode::Slow(Duration::from_millis(800)));
    let inline = KeySet::generate().unwrap();
    let fixture = Setup::new(gate(&json!({}), &inline)).workers(2).start_with(idp);
    let tokens: Vec<_> = (0..12)
        .map(|n| token(&fixture.idp.keys(), REMOTE, &format!("s{n}")))
        .collect();
    for answer in at_once(&fixture, &tokens).await {
        answer.expect(200, None, "a request that waited for keys");
    }
    assert_eq!(fixture.idp.fetches(), 1, "the workers share one fetch");
    fixture.assert_sound("slow");
}

/// The configuration that began the fetch takes it with it.
#[tokio::test]
async fn an_update_while_keys_are_fetched_refuses_nobody() {
    let idp = IdentityProvider::start().unwrap();
    idp.set_mode(Mode::Slow(Duration::from_millis(1500)));
    let gate = gate(&json!({}), &KeySet::generate().unwrap());
    let setup = Setup::new(gate.clone()).workers(2);
    let fixture = setup.clone().start_with(idp);
    let mut renamed = gate;
    renamed["rules"][0]["name"] = json!("every");
    fixture.publish(&setup.gate(renamed).filter());
    let tokens: Vec<_> = (0..12)
        .map(|n| token(&fixture.idp.keys(), REMOTE, &format!("s{n}")))
        .collect();
    for answer in at_once(&fixture, &tokens).await {
        answer.expect(200, None, "a request that waited for keys");
    }
    fixture.assert_sound("an update while keys are fetched");
}

#[tokio::test]
async fn a_provider_that_is_down_takes_only_its_own_tokens_down() {
    for mode in [Mode::Down500, Mode::Garbage, Mode::Hang] {
        let idp = IdentityProvider::start().unwrap();
        idp.set_mode(mode);
        let inline = KeySet::generate().unwrap();
        let schedule = json!({"timeout": "1s", "cooldown": "1s"});
        let fixture = Setup::new(gate(&schedule, &inline)).workers(2).start_with(idp);
        let client = client(Version::Http1);
        let remote = token(&fixture.idp.keys(), REMOTE, "alice");
        let answer = until(503, &fixture, &remote, Duration::from_secs(8)).await;
        answer.expect(503, Some("keys_unavailable"), &format!("{mode:?}"));
        assert_eq!(answer.header("retry-after"), Some("1"), "{mode:?}");
        let other = get(&client, &fixture, &token(&inline, INLINE, "bob")).await;
        other.expect(200, None, &format!("{mode:?}: the other issuer"));
        let by_key = Call::get("/x").api_key("key").send(&client, &fixture).await;
        by_key.expect(200, None, &format!("{mode:?}: an API key"));
        // A forged token of the issuer in question is not let in, of course, and neither is one without signature.
        let forged = get(&client, &fixture, &tokens::tamper(&remote)).await;
        assert_eq!(forged.status, 503, "{mode:?}");

        fixture.idp.set_mode(Mode::Ok);
        until(200, &fixture, &remote, Duration::from_secs(8)).await;
        fixture.assert_sound("down");
    }
}

#[tokio::test]
async fn rotation_outage_and_a_flood_of_unknown_keys() {
    let inline = KeySet::generate().unwrap();
    let fixture = Setup::new(gate(&json!({"cooldown": "1s", "timeout": "1s"}), &inline))
        .workers(2)
        .start();
    let old = fixture.idp.keys();
    let first = token(&old, REMOTE, "alice");
    until(200, &fixture, &first, Duration::from_secs(5)).await;
    assert_eq!(fixture.idp.fetches(), 1);

    // Rotated: one fetch for all who come with the new key, and the old key is forgotten.
    sleep(Duration::from_millis(1_100)).await;
    fixture.idp.rotate();
    let rotated: Vec<_> = (0..8)
        .map(|n| token(&fixture.idp.keys(), REMOTE, &format!("s{n}")))
        .collect();
    for answer in at_once(&fixture, &rotated).await {
        answer.expect(200, None, "a token of the new key");
    }
    assert_eq!(fixture.idp.fetches(), 2, "one fetch for a new key");
    until(401, &fixture, &first, Duration::from_secs(2)).await;

    // A flood of unknown keys: fetches within the budget, and good tokens pass all the while.
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
        for answer in at_once(&fixture, &flood).await {
            answer.expect(401, Some("token_invalid"), "an unknown key");
        }
        until(200, &fixture, &rotated[0], Duration::ZERO).await;
    }
    // A budget of ten, and one for each cooldown.
    let allowed = started.elapsed().as_secs() + 11;
    let fetches = fixture.idp.fetches() - fetched;
    assert!(
        fetches <= allowed,
        "{fetches} fetches in {:?} with {generation} unknown keys",
        started.elapsed()
    );

    // An outage: the keys held serve on, though an unknown key asks for others.
    for mode in [Mode::Down500, Mode::Garbage, Mode::Hang] {
        fixture.idp.set_mode(mode);
        sleep(Duration::from_millis(1_100)).await;
        let header = json!({"alg": "ES256", "kid": format!("{mode:?}")});
        let unknown = tokens::assemble(&header, &tokens::claims(REMOTE, "a", "eve", 3600), &[1; 64]);
        let answer = get(&client(Version::Http1), &fixture, &unknown).await;
        answer.expect(401, Some("token_invalid"), &format!("{mode:?}"));
        for n in 0..4 {
            let fresh = token(&fixture.idp.keys(), REMOTE, &format!("{mode:?}{n}"));
            until(200, &fixture, &fresh, Duration::ZERO).await;
        }
    }
    fixture.assert_sound("rotation");
}

#[tokio::test]
async fn keys_past_max_stale_are_not_used() {
    let inline = KeySet::generate().unwrap();
    let schedule = json!({"refresh": "1s", "cooldown": "1s", "timeout": "1s", "max_stale": "3s"});
    let fixture = Setup::new(gate(&schedule, &inline)).workers(2).start();
    let remote = token(&fixture.idp.keys(), REMOTE, "alice");
    until(200, &fixture, &remote, Duration::from_secs(5)).await;
    // While the provider answers, keys are refreshed by one worker and do not grow old.
    let before = fixture.idp.fetches();
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        until(200, &fixture, &remote, Duration::ZERO).await;
        sleep(Duration::from_millis(200)).await;
    }
    let fetches = fixture.idp.fetches() - before;
    assert!((2..=5).contains(&fetches), "{fetches} refreshes in 4 s");

    fixture.idp.set_mode(Mode::Down500);
    let down = Instant::now();
    until(200, &fixture, &remote, Duration::ZERO).await;
    let answer = until(503, &fixture, &remote, Duration::from_secs(6)).await;
    answer.expect(503, Some("keys_unavailable"), "keys too old");
    // The last refresh was at most a tick over a second before the outage.
    assert!(
        down.elapsed() > Duration::from_millis(1_500),
        "{:?}",
        down.elapsed()
    );
    until(200, &fixture, &token(&inline, INLINE, "bob"), Duration::ZERO).await;
    fixture.idp.set_mode(Mode::Ok);
    until(200, &fixture, &remote, Duration::from_secs(5)).await;
    fixture.assert_sound("stale");
}

/// A provider that begins an answer and breaks off, until it is told to serve.
fn breaking_provider(keys: String) -> (u16, std::sync::Arc<std::sync::atomic::AtomicBool>) {
    use std::io::{Read, Write};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sound = Arc::new(AtomicBool::new(false));
    let serve = Arc::clone(&sound);
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
    (port, sound)
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_a_failure_like_any_other() {
    let idp = IdentityProvider::start().unwrap();
    let good = token(&idp.keys(), REMOTE, "alice");
    let (port, sound) = breaking_provider(idp.jwks_json());
    let inline = KeySet::generate().unwrap();
    let fixture = Setup::new(gate(&json!({"timeout": "1s", "cooldown": "1s"}), &inline))
        .change("{{IDP_PORT}}", port.to_string())
        .start_with(idp);
    let refused = until(503, &fixture, &good, Duration::from_secs(10)).await;
    assert_eq!(refused.verdict(), (503, Some("keys_unavailable".to_owned())));
    let other = Call::get("/x")
        .api_key("key")
        .send(&client(Version::Http1), &fixture)
        .await;
    assert_eq!(other.status, 200, "the VM lives on: {other:?}");
    fixture.assert_no_panic("broken off");
    sound.store(true, std::sync::atomic::Ordering::Relaxed);
    until(200, &fixture, &good, Duration::from_secs(10)).await;
}

#[tokio::test]
async fn issuers_that_share_a_key_set_do_not_share_its_failures() {
    let idp = IdentityProvider::start().unwrap();
    let good = token(&idp.keys(), REMOTE, "alice");
    let jwks = json!({"uri": "http://idp.example/.well-known/jwks.json", "cluster": "idp", "cooldown": "1s"});
    let issuer = |iss: &str, algorithm: &str| json!({"issuer": iss, "audiences": ["a"], "algorithms": [algorithm], "jwks": jwks});
    // Ahead of the other by name; both fetch, and each for itself.
    let gate = json!({
        "issuers": {"a": issuer("https://a.example", "PS256"), "b": issuer(REMOTE, "ES256")},
        "rules": [{"name": "all", "authenticate": {"any": ["issuers/a", "issuers/b"]}}],
    });
    let fixture = Setup::new(gate).workers(2).start_with(idp);
    until(200, &fixture, &good, Duration::from_secs(5)).await;
    fixture.assert_sound("shared key set");
}
