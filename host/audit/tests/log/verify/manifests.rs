//! Manifest signatures: each must be valid, and recorded by an event.

use postern_audit::verify::{Code, Report, TrustedReferences};
use postern_audit::{Decision, Event, Hash, Kind};
use serde_json::json;
use uuid::Uuid;

use super::support::{ALL, Log, Manifest, at, found, key, replayed, signed};

fn manifest(log: &mut Log, number: u8) -> Manifest {
    let hash = Hash::of(&[number]);
    let seq = log.rows.len() as u64 + 1;
    let mut event = Event::new(Kind::ManifestSignature, at(seq));
    event.decision = Some(Decision::Allowed);
    event.signer_id = Some("kernel".to_owned());
    event
        .detail
        .insert("manifest_hash".to_owned(), json!(hash.to_string()));
    let id = event.id;
    log.push(event);
    Manifest {
        id,
        hash: hash.0.to_vec(),
        signature: key(1).sk.sign(hash.0, None).to_vec(),
        signer: "kernel".to_owned(),
        signed_at: at(seq).to_string(),
    }
}

fn log() -> Log {
    let mut log = Log::new(5);
    for number in 0..3 {
        let manifest = manifest(&mut log, number);
        log.manifests.push(manifest);
    }
    log
}

#[test]
fn manifest_signatures_are_verified() {
    type Tampering = (&'static str, fn(&mut Log), Option<Code>);
    let tamperings: [Tampering; 11] = [
        ("nothing", |_| {}, None),
        (
            "a signature",
            |log| log.manifests[1].signature[3] ^= 1,
            Some(Code::ManifestSignature),
        ),
        (
            "a hash",
            |log| log.manifests[1].hash = Hash::of(b"other").0.to_vec(),
            Some(Code::ManifestSignature),
        ),
        (
            "an unknown signer",
            |log| log.manifests[1].signer = "nobody".to_owned(),
            Some(Code::ManifestSignerUnknown),
        ),
        (
            "another signer",
            |log| log.manifests[1].signer = "former".to_owned(),
            Some(Code::ManifestSignature),
        ),
        (
            "a retired signer",
            |log| {
                log.manifests[1].signer = "former".to_owned();
                log.manifests[1].signed_at = at(12).to_string();
            },
            Some(Code::ManifestSignerNotValid),
        ),
        (
            "no time",
            |log| log.manifests[1].signed_at = "then".to_owned(),
            Some(Code::ManifestSignature),
        ),
        (
            "another manifest",
            |log| {
                let hash = Hash::of(b"unseen");
                log.manifests[1].hash = hash.0.to_vec();
                log.manifests[1].signature = key(1).sk.sign(hash.0, None).to_vec();
            },
            Some(Code::ManifestDiffers),
        ),
        (
            "another time",
            |log| log.manifests[1].signed_at = at(1_000_000_000).to_string(),
            Some(Code::ManifestDiffers),
        ),
        (
            "one that no event records",
            |log| log.manifests[1].id = Uuid::now_v7(),
            Some(Code::ManifestUnrecorded),
        ),
        (
            "one less than events record",
            |log| drop(log.manifests.pop()),
            Some(Code::ManifestMissing),
        ),
    ];
    for (name, tamper, code) in tamperings {
        let mut log = log();
        tamper(&mut log);
        let stored = log.store();
        let (_, replay) = replayed(stored.export(ALL).as_bytes(), signed()).unwrap();
        for report in [stored.verify(signed()), replay] {
            // A row under another id is both unrecorded and missing.
            let first = found(&report).map(|(seq, found)| match (name, found) {
                ("one that no event records", Code::ManifestMissing) => (seq, Code::ManifestUnrecorded),
                _ => (seq, found),
            });
            assert_eq!(first, code.map(|code| (0, code)), "{name}: {report:?}");
            let gone = u64::from(name.starts_with("one "));
            assert_eq!(
                (
                    report.manifests + u64::from(log.manifests.len() == 2),
                    report.manifests_gone
                ),
                (3, gone),
                "{name}"
            );
        }
    }
}

/// An event that records a denial does not record a signature.
#[test]
fn a_denial_records_no_signature() {
    let mut log = log();
    log.edit(7, |record| record.event.decision = Some(Decision::Denied));
    log.rewrite_from(7);
    let report: Report = log.verify(TrustedReferences::none());
    assert_eq!(report.code(), Some(Code::ManifestUnrecorded));
}
