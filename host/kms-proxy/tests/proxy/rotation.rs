//! Another signer becomes current while requests run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use postern_testbed::kms_proxy::TOKEN;
use serde_json::json;

use super::{is_signed_by, proxy, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_current_signer_changes_while_requests_run() {
    let (proxy, caller) = proxy(&["old", "new"]);
    let proxy = Arc::new(proxy);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|n| {
            let (proxy, caller, stop) = (Arc::clone(&proxy), caller.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let payload = format!("client {n}, request {}", seen.len());
                    let reply = caller.sign(payload.as_bytes(), None).await.unwrap();
                    assert_eq!(reply.status, 200, "{reply:?}");
                    let signer = reply.field("signer_id").unwrap();
                    assert!(is_signed_by(&proxy, &signer, payload.as_bytes(), &reply));
                    seen.push(signer);
                }
                seen
            })
        })
        .collect();

    proxy.configure(&proxy.settings(&["new", "old"])).unwrap();
    proxy.reload().unwrap();
    let current = async || {
        caller
            .sign(b"who?", None)
            .await
            .unwrap()
            .field("signer_id")
            .unwrap()
    };
    until("the new one signs", async || current().await == "new").await;
    // The old signer still signs requests that name it.
    let reply = caller.sign(b"payload", Some("old")).await.unwrap();
    assert!(is_signed_by(&proxy, "old", b"payload", &reply));

    stop.store(true, Ordering::Relaxed);
    for client in clients {
        let seen = client.await.unwrap();
        let change = seen
            .iter()
            .position(|signer| signer == "new")
            .unwrap_or(seen.len());
        assert!(
            seen[change..].iter().all(|signer| signer == "new"),
            "back to the old one: {seen:?}"
        );
    }

    proxy.configure(&proxy.settings(&["new"])).unwrap();
    proxy.reload().unwrap();
    until("the old one is gone", async || {
        let reply = caller.sign(b"payload", Some("old")).await.unwrap();
        reply.status == 422
    })
    .await;
    assert_eq!(current().await, "new");
}

#[tokio::test]
async fn invalid_settings_are_not_applied() {
    let (proxy, caller) = proxy(&["a"]);
    let good = proxy.settings(&["a"]);
    let taken = proxy.log().matches("settings reloaded").count();
    for (at, value, expected) in [
        ("/current", json!("b"), "there is no signer \\\"b\\\""),
        (
            "/signers/a/label",
            json!("b"),
            "there is no private key with the label \\\"b\\\"",
        ),
        (
            "/token/label",
            json!("other"),
            "token has changed since the start: restart",
        ),
        (
            "/listen",
            json!("127.0.0.1:1"),
            "listen has changed since the start: restart",
        ),
        ("/callers/gate/env", json!("UNSET"), "UNSET is not set"),
    ] {
        let mut settings = good.clone();
        *settings.pointer_mut(at).unwrap() = value;
        proxy.configure(&settings).unwrap();
        proxy.reload().unwrap();
        until(expected, async || proxy.log().contains(expected)).await;
        let reply = caller.sign(b"payload", None).await.unwrap();
        assert!(is_signed_by(&proxy, "a", b"payload", &reply), "{at}");
    }
    assert_eq!(proxy.log().matches("settings reloaded").count(), taken);
    assert_eq!(proxy.log().matches("settings not applied").count(), 5);
}

#[tokio::test]
async fn a_reload_adds_and_removes_callers() {
    let (mut proxy, caller) = proxy(&["a"]);
    proxy.kill();
    proxy.env("NEXT_TOKEN", "the-token-that-comes-next");
    proxy.restart().unwrap();
    let next = caller.with_token(Some("the-token-that-comes-next"));
    assert_eq!(next.sign(b"payload", None).await.unwrap().status, 401);
    let mut settings = proxy.settings(&["a"]);
    settings["callers"] = json!({"next": {"env": "NEXT_TOKEN"}});
    proxy.configure(&settings).unwrap();
    proxy.reload().unwrap();
    until("the next one is known", async || {
        next.sign(b"payload", None).await.unwrap().status == 200
    })
    .await;
    let old = caller.with_token(Some(TOKEN));
    assert_eq!(old.sign(b"payload", None).await.unwrap().status, 401);
}
