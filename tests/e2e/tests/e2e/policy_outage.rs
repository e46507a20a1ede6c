//! Policies while the policy host is slow, unreachable, killed and restarted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use postern_e2e::{Fixture, Http1Connection, Request, Setup, Version, client};
use postern_testbed::ext_authz::{CheckBehaviour, Code, ExtAuthzServer, allow, with_status};
use serde_json::{Value, json};

fn gate(timeout: &str, cluster: &str) -> Value {
    json!({
        "host": {"cluster": cluster, "timeout": timeout},
        "rules": [
            {"name": "strict", "match": {"path": {"exact": "/strict"}}, "open": true, "policy": {"module": "m"}},
            {"name": "waived", "match": {"path": {"exact": "/waived"}}, "open": true,
             "policy": {"module": "m", "on_error": "allow"}},
        ],
    })
}

fn start(timeout: &str) -> (Fixture, ExtAuthzServer) {
    let server = ExtAuthzServer::start().unwrap();
    let setup = Setup::new(gate(timeout, "postern_host")).workers(2);
    (setup.policy_host(server.addr()).start(), server)
}

async fn expect(fixture: &Fixture, path: &str, status: u16, code: Option<&str>, case: &str) {
    let response = Request::get(path).send(&client(Version::Http1), fixture).await;
    response.expect(status, code, case);
}

const UNAVAILABLE: Option<&str> = Some("policy_unavailable");

#[tokio::test]
async fn a_policy_call_ends_at_its_timeout() {
    let (fixture, server) = start("200ms");
    server.set_behaviour(CheckBehaviour::Delay(Duration::from_secs(3), Box::new(allow())));
    for (path, status, code) in [("/strict", 503, UNAVAILABLE), ("/waived", 200, None)] {
        let started = Instant::now();
        expect(&fixture, path, status, code, path).await;
        let elapsed = started.elapsed();
        assert!(elapsed >= Duration::from_millis(190), "{path}: {elapsed:?}");
        assert!(elapsed < Duration::from_millis(1_500), "{path}: {elapsed:?}");
    }
    server.set_behaviour(CheckBehaviour::Delay(
        Duration::from_millis(20),
        Box::new(allow()),
    ));
    expect(&fixture, "/strict", 200, None, "in time").await;
    fixture.assert_healthy("slow");
}

#[tokio::test]
async fn on_error_allow_applies_only_to_an_unavailable_host() {
    let (fixture, mut server) = start("1s");
    expect(&fixture, "/strict", 200, None, "up").await;
    server.set_behaviour(CheckBehaviour::Status(Code::Internal));
    expect(
        &fixture,
        "/waived",
        503,
        Some("policy_failed"),
        "a policy that fails",
    )
    .await;
    server.set_behaviour(with_status(Code::PermissionDenied));
    expect(
        &fixture,
        "/waived",
        403,
        Some("policy_denied"),
        "a policy that denies",
    )
    .await;
    server.kill();
    expect(&fixture, "/strict", 503, UNAVAILABLE, "down").await;
    expect(&fixture, "/waived", 200, None, "down, waived").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        fixture.envoy.stat("wasmcustom.postern.policy.waived.waived"),
        Some(1)
    );
    server.set_behaviour(allow());
    server.restart().unwrap();
    expect(&fixture, "/strict", 200, None, "back").await;
    fixture.assert_healthy("unavailable");
}

#[tokio::test]
async fn an_unknown_cluster_is_an_unavailable_host() {
    // The second name happens to decode as a protobuf message.
    for cluster in ["nowhere", "pa"] {
        let fixture = Setup::new(gate("1s", cluster)).start();
        expect(&fixture, "/strict", 503, UNAVAILABLE, cluster).await;
        expect(&fixture, "/waived", 200, None, cluster).await;
        assert!(
            fixture.envoy.log().contains("the policy of rule strict"),
            "the log names the rule"
        );
        fixture.assert_healthy(cluster);
    }
}

/// The host is killed and restarted under continuous load. Each request gets a 200 or a 503, and the filter recovers
/// without a restart of Envoy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_filter_recovers_from_kills_of_the_host_under_load() {
    let (fixture, mut server) = start("250ms");
    let stop = Arc::new(AtomicBool::new(false));
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (stop, counts, url) = (Arc::clone(&stop), Arc::clone(&counts), fixture.envoy.url(""));
            tokio::spawn(async move {
                let client = client(Version::Http1);
                let request = Request::get("/strict");
                while !stop.load(Ordering::Relaxed) {
                    let response = request.send_to(&client, &url).await.unwrap();
                    match response.status {
                        200 => counts[0].fetch_add(1, Ordering::Relaxed),
                        _ => {
                            response.expect(503, UNAVAILABLE, "under load");
                            counts[1].fetch_add(1, Ordering::Relaxed)
                        }
                    };
                }
            })
        })
        .collect();
    let pause = || tokio::time::sleep(Duration::from_millis(400));
    for _ in 0..3 {
        pause().await;
        server.kill();
        pause().await;
        server.restart().unwrap();
    }
    pause().await;
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
    let [passed, refused] = [0, 1].map(|index: usize| counts[index].load(Ordering::Relaxed));
    assert!(passed > 20 && refused > 20, "{passed} passed, {refused} refused");
    expect(&fixture, "/strict", 200, None, "back").await;
    fixture.assert_healthy("killed");
}

#[tokio::test]
async fn a_client_that_disconnects_during_a_policy_call_does_no_harm() {
    let (fixture, server) = start("1s");
    server.set_behaviour(CheckBehaviour::Delay(
        Duration::from_millis(300),
        Box::new(allow()),
    ));
    for _ in 0..20 {
        let mut connection = Http1Connection::open(fixture.envoy.addr()).await;
        connection.write(b"GET /strict HTTP/1.1\r\nhost: a\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(connection);
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    server.set_behaviour(allow());
    expect(&fixture, "/strict", 200, None, "afterwards").await;
    fixture.assert_healthy("disconnected");
}
