//! A token that is gone, and comes back.

use std::time::Duration;

use postern_testbed::softhsm;

use super::{is_signed_by, proxy, until};

#[tokio::test]
async fn a_token_that_is_gone_is_told_and_found_again() {
    let (proxy, caller) = proxy(&["a"]);
    for round in 0..3 {
        assert_eq!(caller.sign(b"before", None).await.unwrap().status, 200);
        proxy.hsm().remove().unwrap();
        until("503 while it is gone", async || {
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

/// Nobody asks, and it is noticed all the same.
#[tokio::test]
async fn a_token_that_nobody_asks_is_watched() {
    let (proxy, caller) = proxy(&["a"]);
    proxy.hsm().remove().unwrap();
    until("token_up 0", async || {
        let metrics = caller.get("/metrics").await.unwrap().text;
        metrics.contains("postern_kms_proxy_token_up 0\n")
    })
    .await;
}

/// Another token with the same label and another PIN: one try, then none until someone says so.
#[tokio::test]
async fn a_pin_that_is_refused_later_is_not_tried_again() {
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
    // Longer than the longest time between two tries.
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

/// The same token and label, another key: no signature of it under the old one's id.
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
