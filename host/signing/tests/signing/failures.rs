//! Each failure of the proxy has its own code, no signature is returned, and signing resumes when the proxy recovers.

use std::time::{Duration, Instant};

use crate::support::{Behaviour, Kms, RegistryDir, SIGNER, metrics, pair, start, verifies};
use postern_signing::{BreakerSettings, BreakerState, ProxySettings, SignerSelection, Signing};
use serde_json::json;

fn only(id: &str) -> SignerSelection {
    SignerSelection {
        signer_id: Some(id.to_owned()),
        ..SignerSelection::default()
    }
}

async fn signs(signing: &Signing, what: &str) {
    let signed = signing
        .sign(b"payload")
        .await
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(signed.signer_id, SIGNER, "{what}");
    assert!(verifies(SIGNER, b"payload", &signed.signature), "{what}");
    assert!(signed.proxy_elapsed <= signed.elapsed, "{what}");
    assert!(signing.state().is_healthy(), "{what}");
}

async fn fails(signing: &Signing, code: &str, what: &str) {
    let started = Instant::now();
    let error = signing.sign(b"payload").await.unwrap_err();
    assert_eq!(error.code(), code, "{what}: {error}");
    assert!(!error.is_caller_error(), "{what}");
    assert!(
        !error.to_string().contains("cGF5bG9hZA") && !error.to_string().contains("s3cret"),
        "{error}"
    );
    // The deadline is 0.7 s; the bound is generous.
    assert!(started.elapsed() < Duration::from_secs(5), "{what}");
    let state = signing.state();
    assert_eq!(state.failure.unwrap().error, error, "{what}");
}

/// Response bodies that are invalid.
fn invalid_bodies() -> Vec<(&'static str, Vec<u8>)> {
    let signature = "A".repeat(86) + "==";
    let of = |signature: &str, signer: &str| {
        format!(r#"{{"signature_b64": "{signature}", "signer_id": "{signer}"}}"#).into_bytes()
    };
    vec![
        ("nothing", Vec::new()),
        ("not JSON", b"<html>It works!</html>".to_vec()),
        ("not UTF-8", b"{\"signature_b64\": \"\xff\"}".to_vec()),
        (
            "no signer",
            format!(r#"{{"signature_b64": "{signature}"}}"#).into_bytes(),
        ),
        ("no signature", br#"{"signer_id": "kernel-1"}"#.to_vec()),
        ("a list", b"[]".to_vec()),
        ("not Base64", of("!!!", SIGNER)),
        ("63 bytes", of(&"A".repeat(84), SIGNER)),
        ("66 bytes", of(&"A".repeat(88), SIGNER)),
        ("no bytes", of("", SIGNER)),
        ("an id with a line break", of(&signature, "kernel\\n1")),
        ("10 MB", vec![b' '; 10_000_000]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_response_has_a_code_and_signing_resumes() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    let mut cases: Vec<(String, Behaviour, &str)> = invalid_bodies()
        .into_iter()
        .map(|(what, body)| (what.to_owned(), Behaviour::Respond(200, body), "garbage"))
        .collect();
    let statuses = [
        (201, "status"),
        (302, "status"),
        (400, "status"),
        (401, "unauthorized"),
        (403, "unauthorized"),
        (404, "status"),
        (500, "status"),
        (502, "status"),
        (503, "status"),
    ];
    let statuses =
        statuses.map(|(status, code)| (status.to_string(), Behaviour::Respond(status, Vec::new()), code));
    cases.extend(statuses);
    let others = [
        (
            "busy, with a long Retry-After",
            Behaviour::Busy(9, "60"),
            "status",
        ),
        ("busy for every attempt", Behaviour::Busy(9, "0"), "status"),
        ("no response", Behaviour::Hang, "timeout"),
        (
            "slow by 10 s",
            Behaviour::Delay(Duration::from_secs(10)),
            "timeout",
        ),
        ("trickling", Behaviour::Trickle, "timeout"),
        (
            "an unknown signer",
            Behaviour::SignAs("stranger", "stranger"),
            "signer_unknown",
        ),
        (
            "a retired signer",
            Behaviour::SignAs("retired", "retired"),
            "signer_retired",
        ),
        (
            "a signer that is not yet valid",
            Behaviour::SignAs("early", "early"),
            "signer_not_yet_valid",
        ),
        (
            "an expired signer",
            Behaviour::SignAs("late", "late"),
            "signer_expired",
        ),
        (
            "another signer's key",
            Behaviour::SignAs("kernel-2", SIGNER),
            "signature_wrong",
        ),
        ("another payload", Behaviour::SignOtherPayload, "signature_wrong"),
    ];
    cases.extend(others.map(|(what, behaviour, code)| (what.to_owned(), behaviour, code)));

    signs(&signing, "initially").await;
    for (what, behaviour, code) in cases {
        kms.set_behaviour(behaviour);
        fails(&signing, code, &what).await;
        kms.set_behaviour(Behaviour::Correct);
        signs(&signing, &what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_proxy_is_unreachable_until_it_restarts() {
    let (dir, mut kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    signs(&signing, "initially").await;
    for round in 0..3 {
        kms.kill();
        fails(&signing, "unreachable", &format!("round {round}")).await;
        kms.restart();
        signs(&signing, &format!("round {round}")).await;
    }
}

/// The next request finds its pooled connection closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_proxy_between_requests_fails_none() {
    let (dir, mut kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    for round in 0..3 {
        signs(&signing, &format!("round {round}")).await;
        kms.kill();
        kms.restart();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_opens_and_signing_resumes_after_the_pause() {
    let (dir, mut kms) = (RegistryDir::new(), Kms::start());
    let signing = start(ProxySettings {
        breaker: BreakerSettings {
            failures: 3,
            pause: Duration::from_millis(300),
        },
        ..dir.proxy(&kms)
    });
    kms.kill();
    for _ in 0..3 {
        fails(&signing, "unreachable", "before it opens").await;
    }
    assert_eq!(signing.state().breaker, BreakerState::Open);
    assert_eq!(metrics(&signing)["postern_signing_breaker"], "2");
    let error = signing.sign(b"payload").await.unwrap_err();
    assert_eq!(error.code(), "breaker_open");
    // The cause stays visible while the breaker is open.
    assert_eq!(signing.state().failure.unwrap().error.code(), "unreachable");

    kms.restart();
    tokio::time::sleep(Duration::from_millis(350)).await;
    signs(&signing, "after the pause").await;
    let metrics = metrics(&signing);
    assert_eq!(metrics["postern_signing_breaker"], "0");
    assert_eq!(
        metrics["postern_signing_failures_total{code=\"unreachable\"}"],
        "3"
    );
    assert_eq!(
        metrics["postern_signing_failures_total{code=\"breaker_open\"}"],
        "1"
    );
    assert_eq!(
        metrics["postern_signing_signatures_total{signer=\"kernel-1\",mode=\"proxy\"}"],
        "1"
    );
    assert_eq!(metrics["postern_signing_latency_seconds_count"], "5");
}

/// An invalid response shows that the proxy is reachable, and its error must not be hidden by the breaker.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_responses_do_not_open_the_breaker() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    for behaviour in [
        Behaviour::SignOtherPayload,
        Behaviour::Respond(500, Vec::new()),
        Behaviour::Respond(200, b"{}".to_vec()),
    ] {
        kms.set_behaviour(behaviour);
        for _ in 0..6 {
            assert_ne!(signing.sign(b"payload").await.unwrap_err().code(), "breaker_open");
        }
    }
    assert_eq!(kms.sign_requests(), 18, "none of them is retried");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_trial_does_not_block_the_next_request() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = start(ProxySettings {
        breaker: BreakerSettings {
            failures: 1,
            pause: Duration::from_millis(100),
        },
        ..dir.proxy(&kms)
    });
    kms.set_behaviour(Behaviour::Hang);
    fails(&signing, "timeout", "the breaker opens").await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let cancelled = tokio::time::timeout(Duration::from_millis(100), signing.sign(b"payload")).await;
    assert!(cancelled.is_err());
    kms.set_behaviour(Behaviour::Correct);
    signs(&signing, "the next request is a trial").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_configured_signer_is_accepted() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = start(ProxySettings {
        selection: only(SIGNER),
        ..dir.proxy(&kms)
    });
    signs(&signing, "the configured signer").await;
    kms.set_behaviour(Behaviour::SignAs("kernel-2", "kernel-2"));
    fails(&signing, "signer_unexpected", "another active signer").await;
    // Without the setting, any active signer is accepted.
    let any = dir.signing(&kms);
    assert_eq!(any.sign(b"payload").await.unwrap().signer_id, "kernel-2");
    kms.set_behaviour(Behaviour::Correct);
    signs(&signing, "the configured signer again").await;
    // Requests name the signer only if the settings say so: a strict proxy rejects other fields.
    assert_eq!(kms.last_request(), json!({"payload_b64": "cGF5bG9hZA=="}));
    let second = start(ProxySettings {
        selection: SignerSelection {
            send_signer_id: true,
            ..only("kernel-2")
        },
        ..dir.proxy(&kms)
    });
    let signed = second.sign(b"payload").await.unwrap();
    assert_eq!(signed.signer_id, "kernel-2");
    assert!(verifies("kernel-2", b"payload", &signed.signature));
    assert!(!verifies(SIGNER, b"payload", &signed.signature));
    assert_ne!(pair(SIGNER).pk, pair("kernel-2").pk);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payload_that_is_too_large_is_not_sent() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    let large = vec![7; postern_signing::MAX_PAYLOAD_SIZE + 1];
    let error = signing.sign(&large).await.unwrap_err();
    assert_eq!(
        (error.code(), error.is_caller_error(), kms.sign_requests()),
        ("payload_too_large", true, 0)
    );
    assert!(signing.state().is_healthy());
    let largest = &large[..postern_signing::MAX_PAYLOAD_SIZE];
    let signed = signing.sign(largest).await.unwrap();
    assert!(verifies(SIGNER, largest, &signed.signature));
}
