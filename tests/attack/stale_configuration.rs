//! A removed entry must lose its effect at once, on open connections too, and an invalid update must change nothing.

use std::time::{Duration, Instant};

use postern_e2e::{Fixture, Request, Setup, Version, client};
use postern_testbed::ext_authz::{CheckBehaviour, ExtAuthzServer, allow};
use postern_testbed::sign;
use serde_json::{Value, json};

/// A gate that admits these API keys.
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
        Request::get("/x").api_key("kept-key"),
        Request::get("/x").api_key("revoked-key"),
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
    fixture.publish_filter(&setup.gate(gate(&["kept-key"])).filter());
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
    assert_eq!(connections(&fixture), before, "no connection was opened");
    fixture.assert_healthy("revoked");
}

#[tokio::test]
async fn an_invalid_update_is_rejected_and_the_old_configuration_stays() {
    let setup = Setup::new(gate(&["old-key"])).workers(2);
    let fixture = setup.clone().start();
    let http = client(Version::Http1);
    let limited = Request::get("/limited");
    assert_eq!(limited.send(&http, &fixture).await.status, 200);
    let mut unknown_key_set = gate(&["new-key"]);
    unknown_key_set["rules"][1]["authenticate"] = json!({"any": ["api_keys/nobody"]});
    let mut misspelt = gate(&["new-key"]);
    misspelt["rulez"] = json!([]);
    let mut wildcard = gate(&["new-key"]);
    wildcard["rules"][1]["match"] = json!({"path": {"prefix": "/*"}});
    for (count, invalid) in (1..).zip([
        unknown_key_set,
        misspelt,
        wildcard,
        json!("open: true"),
        json!({}),
    ]) {
        fixture.publish_filter(&setup.clone().gate(invalid).filter());
        until(&fixture, REJECTED, count).await;
        for _ in 0..4 {
            let request = |key| Request::get("/x").api_key(key);
            assert_eq!(
                request("old-key").send(&http, &fixture).await.status,
                200,
                "invalid update {count}"
            );
            assert_eq!(
                request("new-key").send(&http, &fixture).await.status,
                401,
                "invalid update {count}"
            );
        }
    }
    let log = fixture.envoy.log();
    assert!(log.contains("rules[1].authenticate.any[0]: no set of API keys \"nobody\""));
    assert!(log.contains("unknown field \"rulez\""));

    // Rate limit counts belong to the gateway, not to a configuration.
    assert_eq!(limited.send(&http, &fixture).await.status, 200);
    fixture.publish_filter(&setup.gate(gate(&["new-key"])).filter());
    let deadline = Instant::now() + Duration::from_secs(10);
    while Request::get("/x")
        .api_key("new-key")
        .send(&http, &fixture)
        .await
        .status
        != 200
    {
        assert!(Instant::now() < deadline, "the valid update has no effect");
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

/// A request in flight during an update completes under the configuration it started with.
#[tokio::test]
async fn a_request_in_flight_completes_under_the_old_configuration() {
    let mut policy_gate = gate(&["key"]);
    policy_gate["host"] = json!({"cluster": "postern_host", "timeout": "10s"});
    policy_gate["rules"][1]["policy"] = json!({"module": "m"});
    let server = ExtAuthzServer::start().unwrap();
    server.choose_behaviour(|_| CheckBehaviour::Delay(Duration::from_millis(1500), Box::new(allow())));
    let setup = Setup::new(policy_gate).policy_host(server.addr());
    let fixture = setup.clone().start();
    let (http, request) = (client(Version::Http2), Request::get("/x").api_key("key"));
    let waiting = tokio::spawn({
        let (http, request, base) = (http.clone(), request.clone(), fixture.envoy.url(""));
        async move { request.send_to(&http, &base).await }
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    while server.take_requests().is_empty() {
        assert!(Instant::now() < deadline, "the policy is not called");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fixture.publish_filter(&setup.gate(gate(&["another-key"])).filter());
    while request.send(&http, &fixture).await.status == 200 {
        assert!(Instant::now() < deadline, "the update has no effect");
    }
    assert_eq!(
        waiting.await.unwrap().unwrap().status,
        200,
        "started under the old configuration"
    );
    request.send(&http, &fixture).await.expect(
        401,
        Some("key_invalid"),
        "started under the new configuration",
    );
    fixture.assert_healthy("in flight");
}

/// Each update contains a hundred thousand keys. A leak per update would exhaust an Envoy that is updated for weeks.
#[tokio::test]
async fn large_updates_leak_no_memory() {
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
        fixture.publish_filter(&setup.clone().gate(many(round)).filter());
        let request = Request::get("/x").api_key(&format!("key-{round}-99999"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while request.send(&http, &fixture).await.status != 200 {
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
    let (first, last) = (sizes[1], sizes[sizes.len() - 1]);
    assert!(
        last < 2 * first,
        "{first} bytes after one large update, {last} after ten more"
    );
    fixture.assert_healthy("large updates");
}
