//! What was taken away must be gone at once, on connections that are open too; what is wrong must change nothing.

use std::time::{Duration, Instant};

use postern_e2e::{Call, Fixture, Setup, Version, client};
use postern_testbed::policy_peer::messages::CheckResponse;
use postern_testbed::policy_peer::{Answer, PolicyPeer};
use postern_testbed::sign;
use serde_json::{Value, json};

/// One rule, for whoever holds one of these keys.
fn gate(keys: &[&str]) -> Value {
    let keys: Vec<_> = keys
        .iter()
        .map(|key| json!({"id": key, "digest": sign::api_key_digest(key)}))
        .collect();
    json!({
        "api_keys": {"agents": {"keys": keys}},
        "limits": {"few": {"quota": 3, "window": "600s", "key": ["address"]}},
        "rules": [
            {"name": "limited", "match": {"path": {"exact": "/limited"}}, "open": true, "limits": ["few"]},
            {"name": "all", "authenticate": {"any": ["api_keys/agents"]}},
        ],
    })
}

fn connections(fixture: &Fixture) -> u64 {
    fixture
        .envoy
        .stat("http.ingress.downstream_cx_total")
        .unwrap_or_default()
}

async fn until(fixture: &Fixture, name: &str, at_least: u64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while fixture.envoy.stat(name).unwrap_or_default() < at_least {
        let log = fixture.envoy.log();
        assert!(Instant::now() < deadline, "{name} stays under {at_least}:\n{log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const REJECTED: &str = "extension_config_discovery.http_filter.postern.update_rejected";

#[tokio::test]
async fn a_revoked_key_is_refused_on_open_connections() {
    let setup = Setup::new(gate(&["kept-key", "revoked-key"])).workers(2);
    let fixture = setup.clone().start();
    let (kept, revoked) = (
        Call::get("/x").api_key("kept-key"),
        Call::get("/x").api_key("revoked-key"),
    );
    // Several connections of each version, so that both workers have some.
    let clients: Vec<_> = [Version::Http1, Version::Http2]
        .repeat(4)
        .into_iter()
        .map(client)
        .collect();
    for client in &clients {
        assert_eq!(revoked.send(client, &fixture).await.status, 200);
    }
    let before = connections(&fixture);
    fixture.publish(&setup.gate(gate(&["kept-key"])).filter());
    let published = Instant::now();
    for client in &clients {
        while revoked.send(client, &fixture).await.status == 200 {
            let age = published.elapsed();
            assert!(age < Duration::from_secs(1), "still admitted after {age:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        revoked
            .send(client, &fixture)
            .await
            .expect(401, Some("key_invalid"), "revoked");
        assert_eq!(kept.send(client, &fixture).await.status, 200);
    }
    assert_eq!(
        connections(&fixture),
        before,
        "the connections are those from before"
    );
    fixture.assert_sound("revoked");
}

#[tokio::test]
async fn a_wrong_update_is_refused_and_the_old_configuration_stays() {
    let setup = Setup::new(gate(&["old-key"])).workers(2);
    let fixture = setup.clone().start();
    let http = client(Version::Http1);
    let limited = Call::get("/limited");
    assert_eq!(limited.send(&http, &fixture).await.status, 200);
    let mut unnamed = gate(&["new-key"]);
    unnamed["rules"][1]["authenticate"] = json!({"any": ["api_keys/nobody"]});
    let mut misspelt = gate(&["new-key"]);
    misspelt["rulez"] = json!([]);
    let mut literal = gate(&["new-key"]);
    literal["rules"][1]["match"] = json!({"path": {"prefix": "/*"}});
    for (count, wrong) in (1..).zip([unnamed, misspelt, literal, json!("open: true"), json!({})]) {
        fixture.publish(&setup.clone().gate(wrong).filter());
        until(&fixture, REJECTED, count).await;
        for _ in 0..4 {
            let call = |key| Call::get("/x").api_key(key);
            assert_eq!(
                call("old-key").send(&http, &fixture).await.status,
                200,
                "wrong update {count}"
            );
            assert_eq!(
                call("new-key").send(&http, &fixture).await.status,
                401,
                "wrong update {count}"
            );
        }
    }
    let log = fixture.envoy.log();
    assert!(log.contains("rules[1].authenticate.any[0]: no set of API keys \"nobody\""));
    assert!(log.contains("unknown field \"rulez\""));

    // Counts are the gateway's, not the configuration's.
    assert_eq!(limited.send(&http, &fixture).await.status, 200);
    fixture.publish(&setup.gate(gate(&["new-key"])).filter());
    let deadline = Instant::now() + Duration::from_secs(10);
    while Call::get("/x")
        .api_key("new-key")
        .send(&http, &fixture)
        .await
        .status
        != 200
    {
        assert!(Instant::now() < deadline, "the right update has no effect");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(limited.send(&http, &fixture).await.status, 200);
    assert_eq!(
        limited.send(&http, &fixture).await.status,
        429,
        "counts survive an update"
    );
    fixture.assert_no_panic("updates");
}

/// What is under way when the gate changes is neither lost nor hung.
#[tokio::test]
async fn a_request_that_waits_is_answered_though_its_gate_was_replaced() {
    let mut peer_gate = gate(&["key"]);
    peer_gate["host"] = json!({"cluster": "postern_host", "timeout": "10s"});
    peer_gate["rules"][1]["policy"] = json!({"module": "m"});
    let peer = PolicyPeer::start().unwrap();
    peer.decide(|_| Answer::Late(Duration::from_millis(1500), Box::new(CheckResponse::allow())));
    let setup = Setup::new(peer_gate).policy_host(peer.addr());
    let fixture = setup.clone().start();
    let (http, call) = (client(Version::Http2), Call::get("/x").api_key("key"));
    let waiting = tokio::spawn({
        let (http, call, base) = (http.clone(), call.clone(), fixture.envoy.url(""));
        async move { call.send_to(&http, &base).await }
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    while peer.take_asked().is_empty() {
        assert!(Instant::now() < deadline, "the policy is not asked");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fixture.publish(&setup.gate(gate(&["another-key"])).filter());
    while call.send(&http, &fixture).await.status == 200 {
        assert!(Instant::now() < deadline, "the update has no effect");
    }
    assert_eq!(
        waiting.await.unwrap().unwrap().status,
        200,
        "begun under the old gate"
    );
    call.send(&http, &fixture)
        .await
        .expect(401, Some("key_invalid"), "begun under the new one");
    fixture.assert_sound("in flight");
}

/// Each update holds a hundred thousand keys. What they leave behind would end an Envoy that is updated for weeks.
#[tokio::test]
async fn large_updates_leave_nothing_behind() {
    let many = |round: usize| {
        let keys: Vec<_> = (0..100_000)
            .map(|number| {
                let key = format!("key-{round}-{number}");
                json!({"id": key, "digest": sign::api_key_digest(&key), "roles": ["Agent"]})
            })
            .collect();
        json!({
            "api_keys": {"agents": {"keys": keys}},
            "rules": [{"name": "all", "authenticate": {"any": ["api_keys/agents"]}}],
        })
    };
    let setup = Setup::new(gate(&["first-key"])).workers(2);
    let fixture = setup.clone().start();
    let http = client(Version::Http1);
    let mut sizes = vec![fixture.envoy.rss_bytes().unwrap()];
    for round in 0..=10 {
        fixture.publish(&setup.clone().gate(many(round)).filter());
        let call = Call::get("/x").api_key(&format!("key-{round}-99999"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while call.send(&http, &fixture).await.status != 200 {
            assert!(
                Instant::now() < deadline,
                "round {round} has no effect:\n{}",
                fixture.envoy.log()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        sizes.push(fixture.envoy.rss_bytes().unwrap());
    }
    println!("resident bytes: {sizes:?}");
    let (one, last) = (sizes[1], sizes[sizes.len() - 1]);
    assert!(
        last < 2 * one,
        "{one} bytes after one large update, {last} after ten more"
    );
    fixture.assert_sound("large updates");
}
