//! Rotation without a restart: the registry reload, the overlap of both signers, the statement that both sign.

use std::time::SystemTime;

use crate::support::{Behaviour, Kms, RegistryDir, SIGNER, pair, start, verifies};
use postern_signing::{RotationSignature, SignerChange, SignerChangeKind};
use serde_json::Value;

fn change(id: &str, kind: SignerChangeKind) -> SignerChange {
    SignerChange {
        signer_id: id.to_owned(),
        kind,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_from_one_signer_to_the_next() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    dir.write_registry(&postern_signers::add("", SIGNER, &pair(SIGNER).pk, None, None).unwrap());
    let signing = start(dir.proxy(&kms));
    let signer = async || signing.sign(b"payload").await.map(|signed| signed.signer_id);
    assert_eq!(signer().await.unwrap(), SIGNER);

    // The KMS changes before the registry: signatures are rejected, and no other signer is tried.
    kms.set_behaviour(Behaviour::SignAs("kernel-2", "kernel-2"));
    assert_eq!(signer().await.unwrap_err().code(), "signer_unknown");
    kms.set_behaviour(Behaviour::Correct);
    let error = signing.rotate(SIGNER, "kernel-2").await.unwrap_err();
    assert_eq!((error.code(), kms.sign_requests()), ("signer_unknown", 2));

    // The overlap: both signers are accepted.
    let text = std::fs::read_to_string(dir.file()).unwrap();
    let both = postern_signers::add(&text, "kernel-2", &pair("kernel-2").pk, None, None).unwrap();
    dir.write_registry(&both);
    let changes = signing.reload_registry().unwrap();
    assert_eq!(changes, [change("kernel-2", SignerChangeKind::Added)]);
    assert_eq!(signer().await.unwrap(), SIGNER);
    kms.set_behaviour(Behaviour::SignAs("kernel-2", "kernel-2"));
    assert_eq!(signer().await.unwrap(), "kernel-2");
    kms.set_behaviour(Behaviour::Correct);

    let rotation = signing.rotate(SIGNER, "kernel-2").await.unwrap();
    let [RotationSignature::New(by_new), RotationSignature::Old(by_old)] = rotation.signatures.as_slice()
    else {
        panic!("{rotation:?}");
    };
    assert_eq!(
        (by_old.signer_id.as_str(), by_new.signer_id.as_str()),
        (SIGNER, "kernel-2")
    );
    assert!(verifies(SIGNER, &rotation.statement, &by_old.signature));
    assert!(verifies("kernel-2", &rotation.statement, &by_new.signature));
    let statement: Value = serde_json::from_slice(&rotation.statement).unwrap();
    assert_eq!(
        statement,
        serde_json::json!({
            "old": SIGNER,
            "new": "kernel-2",
            "new_key": postern_signers::format_key(&pair("kernel-2").pk),
            "time": humantime::format_rfc3339_seconds(rotation.time).to_string(),
        })
    );

    // The old signer is retired.
    dir.write_registry(&postern_signers::retire(&both, SIGNER, SystemTime::now()).unwrap());
    let changes = signing.reload_registry().unwrap();
    assert_eq!(changes, [change(SIGNER, SignerChangeKind::Retired)]);
    assert_eq!(signer().await.unwrap_err().code(), "signer_retired");
    kms.set_behaviour(Behaviour::SignAs("kernel-2", "kernel-2"));
    assert_eq!(signer().await.unwrap(), "kernel-2");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_registry_leaves_the_current_one_in_use() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    let good = signing.registry();
    for text in ["[signers", "[signers.a]\nstatus = \"active\"", "\0"] {
        dir.write_registry(text);
        signing.reload_registry().unwrap_err();
        assert_eq!(signing.registry(), good);
    }
    std::fs::remove_file(dir.file()).unwrap();
    signing.reload_registry().unwrap_err();
    assert!(signing.sign(b"payload").await.is_ok());
    // An empty registry is valid: no signer is trusted.
    dir.write_registry("");
    assert_eq!(signing.reload_registry().unwrap().len(), 5);
    assert_eq!(
        signing.sign(b"payload").await.unwrap_err().code(),
        "signer_unknown"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_rotations_are_rejected() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = dir.signing(&kms);
    for (old, new, code, asked) in [
        (SIGNER, SIGNER, "same_signer", 0),
        (SIGNER, "stranger", "signer_unknown", 0),
        ("stranger", SIGNER, "signer_unknown", 0),
        (SIGNER, "retired", "signer_retired", 0),
        (SIGNER, "early", "signer_not_yet_valid", 0),
        // The new signer has signed by then, which proves nothing without the old signer's signature.
        ("late", "kernel-2", "signer_expired", 2),
    ] {
        let before = kms.sign_requests();
        let error = signing.rotate(old, new).await.unwrap_err();
        assert_eq!(
            (error.code(), kms.sign_requests() - before),
            (code, asked),
            "{old} {new}: {error}"
        );
    }
    // Failures of other signers say nothing about the payload signer.
    assert!(signing.state().is_healthy());
    // A proxy that ignores signer_id is detected.
    kms.set_behaviour(Behaviour::SignAs(SIGNER, SIGNER));
    let error = signing.rotate(SIGNER, "kernel-2").await.unwrap_err();
    assert_eq!(error.code(), "signer_unexpected");
}
