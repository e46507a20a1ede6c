//! Concurrent requests, overload, and a stop under load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postern_testbed::kms_proxy::{KmsClient, KmsResponse};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{audit, is_signed_by, proxy, until};

const CLIENTS: usize = 4;
const EACH: usize = 200;

/// Prints the latency of signatures.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_many_signatures_verify() {
    let (proxy, caller) = proxy(&["a", "b"]);
    let proxy = Arc::new(proxy);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let (proxy, caller) = (Arc::clone(&proxy), caller.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                for i in 0..EACH {
                    let payload = format!("client {n}, request {i}").into_bytes();
                    let signer = ["a", "b"][i % 2];
                    let started = Instant::now();
                    let reply = caller.sign(&payload, Some(signer)).await.unwrap();
                    took.push(started.elapsed());
                    assert_eq!(reply.status, 200, "{reply:?}");
                    assert!(is_signed_by(&proxy, signer, &payload, &reply));
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await.unwrap());
    }
    report("4 at once", took);
    let signed = audit(&proxy).iter().filter(|line| line["result"] == "ok").count();
    assert_eq!(signed, CLIENTS * EACH);

    let mut alone = Vec::new();
    for _ in 0..EACH {
        let started = Instant::now();
        assert_eq!(caller.sign(b"payload", None).await.unwrap().status, 200);
        alone.push(started.elapsed());
    }
    report("one after another", alone);
}

fn report(what: &str, mut took: Vec<Duration>) {
    took.sort_unstable();
    let at = |percent: usize| took[took.len() * percent / 100];
    println!("{what}: p50 {:?}, p95 {:?}, of {}", at(50), at(95), took.len());
    assert!(at(50) < Duration::from_millis(250), "{what}: {:?}", at(50));
}

/// A request in progress.
type Sent = JoinHandle<Result<KmsResponse, String>>;

/// Sends requests at once. Their large payloads keep the token busy for a while.
fn large_requests(caller: &KmsClient, number: usize) -> Vec<Sent> {
    let payload = Arc::new(vec![0; 1 << 20]);
    let send = |_| {
        let (caller, payload) = (caller.clone(), Arc::clone(&payload));
        tokio::spawn(async move {
            let reply = caller.sign(&payload, None).await;
            reply.map_err(|error| error.to_string())
        })
    };
    (0..number).map(send).collect()
}

/// Requests that find the queue full are refused at once, and no request hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_beyond_the_queue_are_refused() {
    let (mut proxy, caller) = proxy(&["a"]);
    proxy.kill();
    let mut settings = proxy.settings(&["a"]);
    settings["token"]["sessions"] = json!(1);
    settings["token"]["queue"] = json!(0);
    proxy.configure(&settings).unwrap();
    proxy.restart().unwrap();
    let requests = large_requests(&caller, 64);
    let (mut signed, mut refused) = (0, 0);
    for reply in requests {
        let reply = reply.await.unwrap().unwrap();
        match reply.field("code").as_deref() {
            None => signed += 1,
            Some("overloaded") => refused += 1,
            other => panic!("{other:?}: {reply:?}"),
        }
    }
    println!("{signed} signed, {refused} refused");
    assert!(signed > 0 && refused > 0);
    assert_eq!(caller.sign(b"payload", None).await.unwrap().status, 200);
}

/// Requests that wait past their deadline get `hsm_timeout`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_wait_no_longer_than_the_deadline() {
    let (mut proxy, caller) = proxy(&["a"]);
    proxy.kill();
    let mut settings = proxy.settings(&["a"]);
    settings["token"]["sessions"] = json!(1);
    settings["token"]["deadline"] = json!("10ms");
    proxy.configure(&settings).unwrap();
    proxy.restart().unwrap();
    let requests = large_requests(&caller, 64);
    let mut late = 0;
    for reply in requests {
        let reply = reply.await.unwrap().unwrap();
        match reply.field("code").as_deref() {
            None => {}
            Some("hsm_timeout") => late += 1,
            other => panic!("{other:?}: {reply:?}"),
        }
    }
    assert!(late > 0);
    // Requests that timed out have left the queue.
    until("it signs again", async || {
        caller.sign(b"payload", None).await.unwrap().status == 200
    })
    .await;
}

/// Requests in progress when the proxy is stopped get their response.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_progress_are_finished_before_the_stop() {
    let (mut proxy, caller) = proxy(&["a"]);
    let requests = large_requests(&caller, 16);
    while audit(&proxy).is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    proxy.signal("TERM").unwrap();
    assert_eq!(proxy.wait().unwrap().code(), Some(0));
    let mut answered = 0;
    for reply in requests {
        // A connection that was not accepted yet may fail.
        if let Ok(reply) = reply.await.unwrap() {
            assert_eq!(reply.status, 200);
            answered += 1;
        }
    }
    let records = audit(&proxy);
    assert!(records.iter().all(|line| line["result"] == "ok"), "{records:?}");
    assert_eq!(records.len(), answered);
    assert!(proxy.log().contains("\"stopped\""));
}
