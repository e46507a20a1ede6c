//! Readiness: what is asked of the proxy, and when.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail this way"
)]

mod support;

use std::time::Duration;

use postern_signing::{Mode, Settings, Signing};
use secrecy::SecretString;
use support::{Behaviour, Kms, RegistryDir};

/// What was found counts for a second.
async fn later() {
    tokio::time::sleep(Duration::from_millis(1050)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_of_a_moment_ago_is_enough() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    signing.ready().await.unwrap();
    assert_eq!((kms.health_checks(), kms.sign_requests()), (1, 0));
    signing.sign(b"payload").await.unwrap();
    later().await;
    signing.ready().await.unwrap();
    assert_eq!((kms.health_checks(), kms.sign_requests()), (1, 1));
    // A failure since says otherwise.
    kms.set_behaviour(Behaviour::Hang);
    signing.sign(b"payload").await.unwrap_err();
    kms.set_health_status(503);
    assert_eq!(signing.ready().await.unwrap_err().code(), "status");
    assert_eq!(signing.state().failure.unwrap().error.code(), "status");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_at_once_get_one_answer() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    let all: Vec<_> = (0..50)
        .map(|_| {
            let signing = signing.clone();
            tokio::spawn(async move { signing.ready().await })
        })
        .collect();
    for one in all {
        one.await.unwrap().unwrap();
    }
    assert_eq!(kms.health_checks(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_proxy_and_its_return() {
    let (dir, mut kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    kms.kill();
    assert_eq!(signing.ready().await.unwrap_err().code(), "unreachable");
    assert!(!signing.state().is_healthy());
    kms.restart();
    later().await;
    signing.ready().await.unwrap();
    assert!(signing.state().is_healthy());
    // It thinks itself well, and a signature shows it.
    assert_eq!(kms.sign_requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_thinks_itself_well_and_hangs_when_it_signs() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    signing.ready().await.unwrap();
    kms.set_behaviour(Behaviour::Hang);
    signing.sign(b"payload").await.unwrap_err();
    // At once, and again: what was found before says nothing any more.
    for _ in 0..3 {
        let began = std::time::Instant::now();
        assert!(signing.ready().await.is_err());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        later().await;
    }
    kms.set_behaviour(Behaviour::Correct);
    for _ in 0..30 {
        if signing.ready().await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not ready: {:?}", signing.state());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_thinks_itself_well_and_signs_wrongly() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    kms.set_behaviour(Behaviour::SignOtherPayload);
    signing.sign(b"payload").await.unwrap_err();
    assert_eq!(signing.ready().await.unwrap_err().code(), "signature_wrong");
    // Nobody sends work to a host that is not ready: it finds out by itself.
    kms.set_behaviour(Behaviour::Correct);
    later().await;
    signing.ready().await.unwrap();
    assert_eq!((signing.state().failure, kms.sign_requests()), (None, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_without_a_health_endpoint_is_asked_for_a_signature() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    kms.set_health_status(404);
    signing.ready().await.unwrap();
    assert_eq!(kms.sign_requests(), 1);
    kms.set_behaviour(Behaviour::Respond(500, Vec::new()));
    signing.sign(b"payload").await.unwrap_err();
    later().await;
    assert_eq!(signing.ready().await.unwrap_err().code(), "status");
}

#[tokio::test]
async fn the_development_signer() {
    let settings = |secret: &str| Settings {
        development_secret: Some(SecretString::from(secret.to_owned())),
        ..Settings::default()
    };
    let signing = Signing::start(&settings("a secret for development")).unwrap();
    let signed = signing.sign(b"payload").await.unwrap();
    assert!(
        signed.signer_id.starts_with("development-"),
        "{}",
        signed.signer_id
    );
    let registry = signing.registry();
    registry
        .verify_recorded(
            &signed.signer_id,
            postern_signers::Use::Payload,
            b"payload",
            &signed.signature,
            std::time::SystemTime::now(),
        )
        .unwrap();
    signing.ready().await.unwrap();
    assert_eq!(signing.mode(), Mode::Development);
    assert!(signing.reload_registry().unwrap().is_empty());
    let series = format!(
        "postern_signing_signatures_total{{signer=\"{}\",mode=\"development\"}}",
        signed.signer_id
    );
    assert_eq!(support::metrics(&signing)[&series], "1");
    let error = signing.rotate(&signed.signer_id, "next").await.unwrap_err();
    assert_eq!(error.code(), "development_signer");
    // The same secret, the same signer: restarts keep what was signed verifiable.
    let restart = Signing::start(&settings("a secret for development")).unwrap();
    assert_eq!(
        restart.sign(b"payload").await.unwrap().signature,
        signed.signature
    );
    assert!(Signing::start(&settings("short")).is_err());
}

#[test]
fn settings_that_do_not_say_who_signs() {
    let required = Settings {
        required: true,
        ..Settings::default()
    };
    let error = Signing::start(&required).unwrap_err().to_string();
    assert!(error.contains("SIGNING_PROXY_URL"), "{error}");
    let both = Settings {
        required: true,
        development_secret: Some(SecretString::from("a secret for development")),
        proxy: None,
    };
    let error = Signing::start(&both).unwrap_err().to_string();
    assert!(
        error.contains("REPOWRITER_SIGNING_SECRET") && !error.contains("a secret"),
        "{error}"
    );
}
