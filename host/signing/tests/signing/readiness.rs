//! Readiness: which requests are sent to the proxy, and when.

use std::time::Duration;

use crate::support::{Behaviour, Kms, RegistryDir};
use postern_signing::{Mode, Settings, Signing};
use secrecy::SecretString;

/// Waits until the result of a probe is no longer cached, which it is for a second.
async fn cache_expiry() {
    tokio::time::sleep(Duration::from_millis(1050)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_recent_signature_no_probe_is_needed() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    signing.ready().await.unwrap();
    assert_eq!((kms.health_checks(), kms.sign_requests()), (1, 0));
    signing.sign(b"payload").await.unwrap();
    cache_expiry().await;
    signing.ready().await.unwrap();
    assert_eq!((kms.health_checks(), kms.sign_requests()), (1, 1));
    // A later failure requires a probe again.
    kms.set_behaviour(Behaviour::Hang);
    signing.sign(b"payload").await.unwrap_err();
    kms.set_health_status(503);
    assert_eq!(signing.ready().await.unwrap_err().code(), "status");
    assert_eq!(signing.state().failure.unwrap().error.code(), "status");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_callers_share_one_probe() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let signing = signing.clone();
            tokio::spawn(async move { signing.ready().await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(kms.health_checks(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_proxy_is_noticed_and_so_is_its_restart() {
    let (dir, mut kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    kms.kill();
    assert_eq!(signing.ready().await.unwrap_err().code(), "unreachable");
    assert!(!signing.state().is_healthy());
    kms.restart();
    cache_expiry().await;
    signing.ready().await.unwrap();
    assert!(signing.state().is_healthy());
    // After a failure, a healthy report is confirmed by a test signature.
    assert_eq!(kms.sign_requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_reports_healthy_but_hangs_is_not_ready() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    signing.ready().await.unwrap();
    kms.set_behaviour(Behaviour::Hang);
    signing.sign(b"payload").await.unwrap_err();
    // At once, although an earlier probe succeeded less than a second ago, and on later probes.
    for _ in 0..3 {
        let started = std::time::Instant::now();
        assert!(signing.ready().await.is_err());
        assert!(
            started.elapsed() < Duration::from_secs(2),
            "{:?}",
            started.elapsed()
        );
        cache_expiry().await;
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
async fn a_proxy_that_reports_healthy_but_signs_wrongly_is_not_ready() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    kms.set_behaviour(Behaviour::SignOtherPayload);
    signing.sign(b"payload").await.unwrap_err();
    assert_eq!(signing.ready().await.unwrap_err().code(), "signature_wrong");
    // A host that is not ready gets no requests, so probes must notice the recovery.
    kms.set_behaviour(Behaviour::Correct);
    cache_expiry().await;
    signing.ready().await.unwrap();
    assert_eq!((signing.state().failure, kms.sign_requests()), (None, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_health_endpoint_a_test_payload_is_signed() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    kms.set_health_status(404);
    signing.ready().await.unwrap();
    assert_eq!(kms.sign_requests(), 1);
    kms.set_behaviour(Behaviour::Respond(500, Vec::new()));
    signing.sign(b"payload").await.unwrap_err();
    cache_expiry().await;
    assert_eq!(signing.ready().await.unwrap_err().code(), "status");
}

#[tokio::test]
async fn development_signers_sign_and_are_ready() {
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
    assert_eq!(crate::support::metrics(&signing)[&series], "1");
    let error = signing.rotate(&signed.signer_id, "next").await.unwrap_err();
    assert_eq!(error.code(), "development_signer");
    // The same secret gives the same signer: signatures stay verifiable after a restart.
    let restart = Signing::start(&settings("a secret for development")).unwrap();
    assert_eq!(
        restart.sign(b"payload").await.unwrap().signature,
        signed.signature
    );
    assert!(Signing::start(&settings("short")).is_err());
}

#[test]
fn conflicting_settings_are_rejected() {
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
