//! A token that is lost and restored.

use std::time::Duration;

use postern_testbed::softhsm;

use super::{is_signed_by, proxy, until};

#[tokio::test]
async fn a_lost_token_is_reported_and_reconnected() {
    let (proxy, caller) = proxy(&["a"]);
    for round in 0..3 {
        assert_eq!(caller.sign(b"before", None).await.unwrap().status, 200);
        proxy.hsm().remove().unwrap();
        until("503 while the token is lost", async || {
            let reply = caller.sign(b"while", None).await.unwrap();
            reply.status == 503 && reply.field("code").as_deref() == Some("hsm_unavailable")
        })
        .await;
        until("not healthy", async || {
            caller.get("/healthz").await.unwrap().status == 503
        })
        .await;
        let metrics = caller.get("/metrics").await.unwrap().text;
        assert!(metrics.contains("postern_kms_proxy_token_up 0\n"), "{metrics}");
        assert_eq!(caller.sign(b"while", None).await.unwrap().status, 503);

        proxy.hsm().restore().unwrap();
        until("it signs again", async || {
            caller.sign(b"after", None).await.unwrap().status == 200
        })
        .await;
        until("healthy again", async || {
            caller.get("/healthz").await.unwrap().status == 200
        })
        .await;
        let reply = caller.sign(b"after", None).await.unwrap();
        assert!(is_signed_by(&proxy, "a", b"after", &reply), "round {round}");
    }
    assert_eq!(proxy.log().matches("the token is connected again").count(), 3);
}

/// The loss is noticed without any request to sign.
#[tokio::test]
async fn an_unused_token_is_monitored() {
    let (proxy, caller) = proxy(&["a"]);
    proxy.hsm().remove().unwrap();
    until("token_up 0", async || {
        let metrics = caller.get("/metrics").await.unwrap().text;
        metrics.contains("postern_kms_proxy_token_up 0\n")
    })
    .await;
}

/// Another token with the same label and another PIN: one attempt to log in, then none until a reload.
#[tokio::test]
async fn a_pin_rejected_on_reconnect_is_not_tried_again() {
    let (proxy, caller) = proxy(&["a"]);
    proxy.hsm().remove().unwrap();
    until("503", async || {
        caller.sign(b"while", None).await.unwrap().status == 503
    })
    .await;
    let token = ["--init-token", "--free", "--label", softhsm::LABEL];
    let pins = ["--pin", "another-pin-1", "--so-pin", "another-pin-2"];
    proxy.hsm().util(&[&token[..], &pins].concat()).unwrap();
    let waits = "not tried again until the settings are reloaded";
    until("one try", async || proxy.log().contains(waits)).await;
    // Longer than the longest delay between two attempts.
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(proxy.log().matches("PinIncorrect").count(), 1, "{}", proxy.log());
    assert_eq!(caller.sign(b"while", None).await.unwrap().status, 503);
    assert_eq!(caller.get("/healthz").await.unwrap().status, 503);

    std::fs::remove_dir_all(proxy.hsm().tokens()).unwrap();
    std::fs::create_dir(proxy.hsm().tokens()).unwrap();
    proxy.hsm().restore().unwrap();
    proxy.reload().unwrap();
    until("it signs again", async || {
        caller.sign(b"after", None).await.unwrap().status == 200
    })
    .await;
}

/// A new key under the same label must not sign under the id of the old one.
#[tokio::test]
async fn another_key_under_the_same_label_does_not_sign() {
    let (proxy, caller) = proxy(&["a"]);
    let before = proxy.public_key("a");
    proxy.hsm().remove().unwrap();
    until("503", async || {
        caller.sign(b"while", None).await.unwrap().status == 503
    })
    .await;
    proxy.hsm().init(softhsm::LABEL).unwrap();
    proxy.hsm().keygen(&super::binary(), "a").unwrap();
    let reason = "has changed: reload";
    until("the other key is noticed", async || proxy.log().contains(reason)).await;
    assert_eq!(caller.sign(b"while", None).await.unwrap().status, 503);

    proxy.reload().unwrap();
    until("it signs again", async || {
        caller.sign(b"after", None).await.unwrap().status == 200
    })
    .await;
    let reply = caller.sign(b"after", None).await.unwrap();
    assert!(is_signed_by(&proxy, "a", b"after", &reply));
    assert_ne!(proxy.public_key("a"), before);
}
