//! Each way in which a proxy can fail has a code of its own, nothing is handed on, and work resumes by itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail this way"
)]

mod support;

use std::time::{Duration, Instant};

use postern_signing::{BreakerSettings, BreakerState, ProxySettings, SignerSelection, Signing};
use serde_json::json;
use support::{Behaviour, Kms, RegistryDir, SIGNER, metrics, pair, start, verifies};

fn by(id: &str) -> SignerSelection {
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
    let began = Instant::now();
    let error = signing.sign(b"payload").await.unwrap_err();
    assert_eq!(error.code(), code, "{what}: {error}");
    assert!(!error.is_caller_error(), "{what}");
    assert!(
        !error.to_string().contains("cGF5bG9hZA") && !error.to_string().contains("s3cret"),
        "{error}"
    );
    // Bounded, generously: the deadline is 0.7 s.
    assert!(began.elapsed() < Duration::from_secs(5), "{what}");
    let state = signing.state();
    assert_eq!(state.failure.unwrap().error, error, "{what}");
}

/// What a proxy says that is no answer.
fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    let signature = "A".repeat(86) + "==";
    let of = |signature: &str, signer: &str| {
        format!(r#"{{"signature_b64": "{signature}", "signer_id": "{signer}"}}"#).into_bytes()
    };
    vec![
        ("nothing", Vec::new()),
        ("no JSON", b"<html>It works!</html>".to_vec()),
        ("no UTF-8", b"{\"signature_b64\": \"\xff\"}".to_vec()),
        (
            "no signer",
            format!(r#"{{"signature_b64": "{signature}"}}"#).into_bytes(),
        ),
        ("no signature", br#"{"signer_id": "kernel-1"}"#.to_vec()),
        ("a list", b"[]".to_vec()),
        ("no Base64", of("!!!", SIGNER)),
        ("63 bytes", of(&"A".repeat(84), SIGNER)),
        ("66 bytes", of(&"A".repeat(88), SIGNER)),
        ("no bytes", of("", SIGNER)),
        ("an id with a line break", of(&signature, "kernel\\n1")),
        ("10 MB", vec![b' '; 10_000_000]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_answers_badly() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    let mut cases: Vec<(String, Behaviour, &str)> = garbage()
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
        ("busy for long", Behaviour::Busy(9, "60"), "status"),
        ("busy all the time", Behaviour::Busy(9, "0"), "status"),
        ("hung", Behaviour::Hang, "timeout"),
        (
            "slow by 10 s",
            Behaviour::Delay(Duration::from_secs(10)),
            "timeout",
        ),
        ("trickling", Behaviour::Trickle, "timeout"),
        (
            "a stranger",
            Behaviour::SignAs("stranger", "stranger"),
            "signer_unknown",
        ),
        (
            "a retired signer",
            Behaviour::SignAs("retired", "retired"),
            "signer_retired",
        ),
        (
            "a signer to come",
            Behaviour::SignAs("early", "early"),
            "signer_not_yet_valid",
        ),
        (
            "a signer of the past",
            Behaviour::SignAs("late", "late"),
            "signer_expired",
        ),
        (
            "another's key",
            Behaviour::SignAs("kernel-2", SIGNER),
            "signature_wrong",
        ),
        (
            "another's payload",
            Behaviour::SignOtherPayload,
            "signature_wrong",
        ),
    ];
    cases.extend(others.map(|(what, behaviour, code)| (what.to_owned(), behaviour, code)));

    signs(&signing, "at first").await;
    for (what, behaviour, code) in cases {
        kms.set_behaviour(behaviour);
        fails(&signing, code, &what).await;
        kms.set_behaviour(Behaviour::Correct);
        signs(&signing, &what).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_is_killed() {
    let (dir, mut kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    signs(&signing, "at first").await;
    for round in 0..3 {
        kms.kill();
        fails(&signing, "unreachable", &format!("round {round}")).await;
        kms.restart();
        signs(&signing, &format!("round {round}")).await;
    }
}

/// The next request finds the connection that it would use closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_was_restarted_is_not_noticed() {
    let (dir, mut kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    for round in 0..3 {
        signs(&signing, &format!("round {round}")).await;
        kms.kill();
        kms.restart();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_opens_and_work_resumes_by_itself() {
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
    // Why it is open is not forgotten.
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

/// A wrong answer shows that the proxy is there: what it does must be seen, not hidden behind the breaker.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_answers_do_not_open_the_breaker() {
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
    assert_eq!(kms.sign_requests(), 18, "none of them is repeated");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trial_of_a_caller_who_goes_away_blocks_nobody() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = start(ProxySettings {
        breaker: BreakerSettings {
            failures: 1,
            pause: Duration::from_millis(100),
        },
        ..dir.proxy(&kms)
    });
    kms.set_behaviour(Behaviour::Hang);
    fails(&signing, "timeout", "opens").await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let gone = tokio::time::timeout(Duration::from_millis(100), signing.sign(b"payload")).await;
    assert!(gone.is_err());
    kms.set_behaviour(Behaviour::Correct);
    signs(&signing, "the next one tries").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signer_of_the_settings_must_sign() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = start(ProxySettings {
        selection: by(SIGNER),
        ..dir.proxy(&kms)
    });
    signs(&signing, "the one").await;
    kms.set_behaviour(Behaviour::SignAs("kernel-2", "kernel-2"));
    fails(&signing, "signer_unexpected", "another active signer").await;
    // Without the setting, it counts.
    let any = dir.signing(&kms);
    assert_eq!(any.sign(b"payload").await.unwrap().signer_id, "kernel-2");
    kms.set_behaviour(Behaviour::Correct);
    signs(&signing, "the one again").await;
    // It is asked for where settings say so, and not only waited for: a strict proxy knows no other field.
    assert_eq!(kms.last_request(), json!({"payload_b64": "cGF5bG9hZA=="}));
    let second = start(ProxySettings {
        selection: SignerSelection {
            send_signer_id: true,
            ..by("kernel-2")
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
