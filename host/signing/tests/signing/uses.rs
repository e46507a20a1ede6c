//! Each signature is for a use and is valid for no other.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::support::{Behaviour, Kms, RegistryDir, SIGNER, pair, start};
use postern_signers::{Use, Uses, add, add_with_uses};
use postern_signing::{ProxySettings, RotationSignature, Settings, SignerSelection, Signing};
use serde_json::json;

const ROOT: &str = "n4bQgYhMfWWaL+qgxVrQFaO/TxsrC4Is0V1sFbDwCgg=";
const DIGEST: &[u8; 32] = b"thirty-two bytes, as a digest is";

/// Reserved payloads, in forms that other programs parse.
fn reserved() -> [String; 5] {
    [
        format!("postern/audit\n7\n{ROOT}\n"),
        format!("postern/audit\n7\n{ROOT}\ntime 2026-01-01T00:00:00+00:00\nmore\n"),
        format!("cosignature/v1\ntime 1\npostern/audit\n7\n{ROOT}\n"),
        r#"{"new":"b","new_key":"ed25519:x","old":"a","old":"c","more":1}"#.to_owned(),
        "postern policy manifest v1\n{}".to_owned(),
    ]
}

fn signer_per_use() -> String {
    let mut text = String::new();
    for (id, what) in [
        (SIGNER, Use::Payload),
        ("manifests", Use::Manifest),
        ("log", Use::Checkpoint),
        ("root", Use::Rotation),
        ("kernel-2", Use::Payload),
    ] {
        text = add_with_uses(&text, id, &pair(id).pk, Some(what.into()), None, None).unwrap();
    }
    text
}

fn selection() -> SignerSelection {
    let uses = [
        (Use::Manifest, "manifests"),
        (Use::Checkpoint, "log"),
        (Use::Rotation, "root"),
    ];
    SignerSelection {
        signer_id: Some(SIGNER.to_owned()),
        uses: uses.map(|(what, id)| (what, id.to_owned())).into(),
        send_signer_id: true,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_key_for_each_use_each_signs_its_own() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    dir.write_registry(&signer_per_use());
    let signing = start(ProxySettings {
        selection: selection(),
        ..dir.proxy(&kms)
    });
    assert_eq!(signing.sign(b"payload").await.unwrap().signer_id, SIGNER);
    assert_eq!(kms.last_request()["signer_id"], SIGNER);
    // A digest is an ordinary payload for a key that signs no manifests.
    assert_eq!(signing.sign(DIGEST).await.unwrap().signer_id, SIGNER);
    let manifest = signing.sign_manifest(&json!({"a": 1})).await.unwrap();
    assert_eq!(manifest.signer_id, "manifests");
    let checkpoint = signing
        .sign_checkpoint(b"postern/audit\n", SystemTime::now())
        .await;
    assert_eq!(checkpoint.unwrap().signer_id, "log");
    for payload in reserved() {
        let before = kms.sign_requests();
        let error = signing.sign(payload.as_bytes()).await.unwrap_err();
        assert_eq!(
            (error.code(), error.is_caller_error()),
            ("payload_reserved", true),
            "{payload}"
        );
        assert_eq!(kms.sign_requests(), before, "{payload}");
    }
    assert!(signing.state().is_healthy());

    // A proxy that signs with a key for another use is detected.
    kms.set_behaviour(Behaviour::SignAs(SIGNER, SIGNER));
    let error = signing.sign_manifest(&json!({})).await.unwrap_err();
    assert_eq!(error.code(), "signer_unexpected");
    // That says nothing about the payload signer.
    assert!(signing.state().is_healthy());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_valid_only_for_its_signers_uses() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    dir.write_registry(
        &add_with_uses(
            "",
            SIGNER,
            &pair(SIGNER).pk,
            Some(Use::Payload.into()),
            None,
            None,
        )
        .unwrap(),
    );
    let signing = dir.signing(&kms);
    signing.sign(b"payload").await.unwrap();
    let error = signing.sign_manifest(&json!({})).await.unwrap_err();
    assert_eq!(error.code(), "signer_use", "{error}");
    let error = signing
        .sign_checkpoint(b"x\n", SystemTime::now())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "signer_use", "{error}");
}

/// Registries from before uses do not set them: their signers are valid for every use, and payloads are rejected by what
/// they could be taken for.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_every_use_signs_no_reserved_payload() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    dir.write_registry(&add("", SIGNER, &pair(SIGNER).pk, None, None).unwrap());
    let signing = dir.signing(&kms);
    signing.sign(b"payload").await.unwrap();
    signing.sign_manifest(&json!({"a": 1})).await.unwrap();
    signing
        .sign_checkpoint(b"postern/audit\n", SystemTime::now())
        .await
        .unwrap();
    let before = kms.sign_requests();
    for payload in reserved().iter().map(String::as_bytes).chain([&DIGEST[..]]) {
        let error = signing.sign(payload).await.unwrap_err();
        assert_eq!(
            error.code(),
            "payload_reserved",
            "{}",
            String::from_utf8_lossy(payload)
        );
    }
    assert_eq!(kms.sign_requests(), before);

    // If the proxy chooses among several signers, the union of their uses applies.
    let two = signer_per_use() + &add("", "all", &pair("all").pk, None, None).unwrap();
    dir.write_registry(&two);
    signing.reload_registry().unwrap();
    assert_eq!(signing.sign(DIGEST).await.unwrap_err().code(), "payload_reserved");
}

#[tokio::test]
async fn development_signers_have_a_key_for_each_use() {
    let signing = Signing::start(&Settings::default()).unwrap();
    let payload = signing.sign(DIGEST).await.unwrap();
    let manifest = signing.sign_manifest(&json!({})).await.unwrap();
    let checkpoint = signing.sign_checkpoint(b"x\n", SystemTime::now()).await.unwrap();
    let registry = signing.registry();
    for (id, what) in [
        (&payload.signer_id, Use::Payload),
        (&manifest.signer_id, Use::Manifest),
        (&checkpoint.signer_id, Use::Checkpoint),
    ] {
        assert_eq!(registry.get(id).unwrap().uses(), Uses::from(what));
    }
    for payload in reserved() {
        let error = signing.sign(payload.as_bytes()).await.unwrap_err();
        assert_eq!(error.code(), "payload_reserved", "{payload}");
    }
}

/// Auditors verify a checkpoint for its own timestamp, so the signer must be valid at that time.
#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_is_verified_for_its_own_timestamp() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let (now, hour) = (SystemTime::now(), Duration::from_secs(3600));
    let (from, until) = (Some(now - hour), Some(now + hour));
    dir.write_registry(&add("", SIGNER, &pair(SIGNER).pk, from, until).unwrap());
    let signing = dir.signing(&kms);
    for (made, expected) in [
        (now, None),
        (now - 2 * hour, Some("signer_not_yet_valid")),
        (now + 2 * hour, Some("signer_expired")),
    ] {
        let signed = signing.sign_checkpoint(b"x\n", made).await;
        assert_eq!(
            signed.err().map(|error| error.code().to_owned()).as_deref(),
            expected
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_signed_by_signers_with_that_use() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    dir.write_registry(&signer_per_use());
    let signing = start(ProxySettings {
        selection: selection(),
        ..dir.proxy(&kms)
    });
    let rotation = signing.rotate(SIGNER, "kernel-2").await.unwrap();
    let [RotationSignature::Delegate(signed)] = rotation.signatures.as_slice() else {
        panic!("{rotation:?}");
    };
    assert_eq!(signed.signer_id, "root");
    assert!(crate::support::verifies(
        "root",
        &rotation.statement,
        &signed.signature
    ));

    // The new signer alone is not sufficient, and without a signer for rotations nothing is signed.
    dir.write_registry(&signer_per_use().replace("[\"rotation\"]", "[\"payload\", \"rotation\"]"));
    signing.reload_registry().unwrap();
    let error = signing.rotate(SIGNER, "root").await.unwrap_err();
    assert_eq!(
        (error.code(), error.is_caller_error()),
        ("no_rotation_signer", true)
    );
    let without = SignerSelection {
        uses: BTreeMap::new(),
        ..selection()
    };
    assert!(signing.set_selection(&without).unwrap());
    let error = signing.rotate(SIGNER, "kernel-2").await.unwrap_err();
    assert_eq!(error.code(), "no_rotation_signer");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_new_signer_must_have_all_uses_of_the_old_one() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let every = add_with_uses(&signer_per_use(), "every", &pair("every").pk, None, None, None).unwrap();
    dir.write_registry(&every);
    let signing = start(ProxySettings {
        selection: selection(),
        ..dir.proxy(&kms)
    });
    // An entry without `uses` has all of them.
    for (old, new, needed, found) in [
        (SIGNER, "log", "payload", "checkpoint"),
        ("log", SIGNER, "checkpoint", "payload"),
        (SIGNER, "root", "payload", "rotation"),
        (
            "every",
            "kernel-2",
            "payload, manifest, checkpoint, rotation",
            "payload",
        ),
    ] {
        let error = signing.rotate(old, new).await.unwrap_err();
        assert_eq!(
            (error.code(), error.is_caller_error(), kms.sign_requests()),
            ("uses_missing", true, 0),
            "{old} {new}"
        );
        let text = error.to_string();
        for part in [
            format!("\"{old}\" has {needed},"),
            format!("\"{new}\" has {found};"),
        ] {
            assert!(text.contains(&part), "{text}");
        }
    }
    signing.rotate(SIGNER, "every").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_selection_changes_without_a_restart() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    let signing = start(ProxySettings {
        selection: SignerSelection {
            signer_id: Some(SIGNER.to_owned()),
            ..SignerSelection::default()
        },
        ..dir.proxy(&kms)
    });
    signing.sign(b"payload").await.unwrap();
    kms.set_behaviour(Behaviour::SignAs("kernel-2", "kernel-2"));
    assert_eq!(
        signing.sign(b"payload").await.unwrap_err().code(),
        "signer_unexpected"
    );
    let next = SignerSelection {
        signer_id: Some("kernel-2".to_owned()),
        ..SignerSelection::default()
    };
    assert!(signing.set_selection(&next).unwrap() && !signing.set_selection(&next).unwrap());
    assert_eq!(signing.sign(b"payload").await.unwrap().signer_id, "kernel-2");
    let unnamed = SignerSelection {
        uses: BTreeMap::from([(Use::Checkpoint, SIGNER.to_owned())]),
        ..next.clone()
    };
    assert!(signing.set_selection(&unnamed).is_err());
    assert_eq!(
        *signing.selection().unwrap(),
        next,
        "an invalid selection is not applied"
    );
}
