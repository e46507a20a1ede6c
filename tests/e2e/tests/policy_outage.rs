//! Policies while their host is slow, gone, killed, and back.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "for tests: what does not work ends the test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use postern_e2e::{Call, Connection, Fixture, Setup, Version, client};
use postern_testbed::policy_peer::messages::CheckResponse;
use postern_testbed::policy_peer::{Answer, PolicyPeer};
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

fn start(timeout: &str) -> (Fixture, PolicyPeer) {
    let peer = PolicyPeer::start().unwrap();
    let setup = Setup::new(gate(timeout, "postern_host")).workers(2);
    (setup.policy_host(peer.addr()).start(), peer)
}

async fn expect(fixture: &Fixture, path: &str, status: u16, code: Option<&str>, case: &str) {
    let answer = Call::get(path).send(&client(Version::Http1), fixture).await;
    answer.expect(status, code, case);
}

const UNAVAILABLE: Option<&str> = Some("policy_unavailable");

#[tokio::test]
async fn a_slow_host_is_waited_for_no_longer_than_configured() {
    let (fixture, peer) = start("200ms");
    peer.answer(Answer::Late(
        Duration::from_secs(3),
        Box::new(CheckResponse::allow()),
    ));
    for (path, status, code) in [("/strict", 503, UNAVAILABLE), ("/waived", 200, None)] {
        let began = Instant::now();
        expect(&fixture, path, status, code, path).await;
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(190), "{path}: {took:?}");
        assert!(took < Duration::from_millis(1_500), "{path}: {took:?}");
    }
    peer.answer(Answer::Late(
        Duration::from_millis(20),
        Box::new(CheckResponse::allow()),
    ));
    expect(&fixture, "/strict", 200, None, "in time").await;
    fixture.assert_sound("slow");
}

#[tokio::test]
async fn only_an_absent_host_is_waived() {
    let (fixture, mut peer) = start("1s");
    expect(&fixture, "/strict", 200, None, "up").await;
    peer.answer(Answer::Status(13));
    expect(
        &fixture,
        "/waived",
        503,
        Some("policy_failed"),
        "a policy that fails",
    )
    .await;
    peer.answer(CheckResponse::status(7));
    expect(
        &fixture,
        "/waived",
        403,
        Some("policy_denied"),
        "a policy that denies",
    )
    .await;
    peer.kill();
    expect(&fixture, "/strict", 503, UNAVAILABLE, "down").await;
    expect(&fixture, "/waived", 200, None, "down, waived").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        fixture.envoy.stat("wasmcustom.postern.policy.waived.waived"),
        Some(1)
    );
    peer.answer(CheckResponse::allow());
    peer.restart().unwrap();
    expect(&fixture, "/strict", 200, None, "back").await;
    fixture.assert_sound("absent");
}

#[tokio::test]
async fn a_cluster_that_is_not_there_refuses() {
    // One name, and one that reads as a protobuf message by chance.
    for cluster in ["nowhere", "pa"] {
        let fixture = Setup::new(gate("1s", cluster)).start();
        expect(&fixture, "/strict", 503, UNAVAILABLE, cluster).await;
        expect(&fixture, "/waived", 200, None, cluster).await;
        assert!(
            fixture.envoy.log().contains("the policy of rule strict"),
            "the log says why"
        );
        fixture.assert_sound(cluster);
    }
}

/// The host is killed and started again while requests come all the time: each is answered as it should be, and all
/// is well afterwards without anything else being started again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_killed_under_load_is_missed_and_found_again() {
    let (fixture, mut peer) = start("250ms");
    let stop = Arc::new(AtomicBool::new(false));
    let counts: Arc<[AtomicUsize; 2]> = Arc::default();
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (stop, counts, url) = (Arc::clone(&stop), Arc::clone(&counts), fixture.envoy.url(""));
            tokio::spawn(async move {
                let client = client(Version::Http1);
                let call = Call::get("/strict");
                while !stop.load(Ordering::Relaxed) {
                    let answer = call.send_to(&client, &url).await.unwrap();
                    match answer.status {
                        200 => counts[0].fetch_add(1, Ordering::Relaxed),
                        _ => {
                            answer.expect(503, UNAVAILABLE, "under load");
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
        peer.kill();
        pause().await;
        peer.restart().unwrap();
    }
    pause().await;
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.unwrap();
    }
    let [passed, refused] = [0, 1].map(|index: usize| counts[index].load(Ordering::Relaxed));
    assert!(passed > 20 && refused > 20, "{passed} passed, {refused} refused");
    expect(&fixture, "/strict", 200, None, "back").await;
    fixture.assert_sound("killed");
}

#[tokio::test]
async fn a_client_that_leaves_is_missed_by_nobody() {
    let (fixture, peer) = start("1s");
    peer.answer(Answer::Late(
        Duration::from_millis(300),
        Box::new(CheckResponse::allow()),
    ));
    for _ in 0..20 {
        let mut connection = Connection::open(fixture.envoy.addr()).await;
        connection.write(b"GET /strict HTTP/1.1\r\nhost: a\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(connection);
    }
    tokio::time::sleep(Duration::from_millis(600)).await;
    peer.answer(CheckResponse::allow());
    expect(&fixture, "/strict", 200, None, "afterwards").await;
    fixture.assert_sound("left");
}
