//! Retiring a signer does not invalidate its earlier signatures, whatever the clocks said, and later ones are rejected.

use postern_audit::verify::{Code, TrustedReferences};
use postern_audit::{Decision, Event, Hash, Kind, Time};
use postern_signers::{Registry, add, retire, retire_now};
use serde_json::json;

use super::support::{ALL, Log, Manifest, at, found, key, note, replayed};

/// `kernel` is retired at this time, and `next` is active.
fn registry(retired: Time) -> Registry {
    let text = add("", "kernel", &key(1).pk, None, None).unwrap();
    let text = add(&text, "next", &key(2).pk, None, None).unwrap();
    Registry::parse(&retire_now(&text, "kernel", retired.system()).unwrap()).unwrap()
}

fn signer_event(seq: u64, host: &str, reason: &str, found: bool) -> Event {
    let mut event = Event::new(Kind::Signer, at(seq));
    event.decision = Some(Decision::Allowed);
    event.gateway = Some(host.to_owned());
    event.reason = Some(reason.to_owned());
    event.signer_id = Some("kernel".to_owned());
    if found {
        event.detail.insert("found".to_owned(), json!("start"));
    }
    event
}

/// 25 events, some of which are about `kernel`; a checkpoint over 10 by `kernel`, and one over 20 by another signer.
fn log(events: &[(usize, &str, &str, bool)], second: Option<(&str, u8)>) -> Log {
    let mut log = Log::new(25);
    for (seq, host, reason, found) in events {
        let event = signer_event(*seq as u64, host, reason, *found);
        log.edit(*seq, |record| record.event = event);
    }
    log.rewrite_from(1);
    log.notes.clear();
    log.put(&note(&log.checkpoint(10), "kernel", &key(1)));
    if let Some((name, number)) = second {
        log.put(&note(&log.checkpoint(20), name, &key(number)));
    }
    log
}

fn verdict(log: &Log, registry: &Registry) -> (Option<(u64, Code)>, Option<u64>) {
    let references = || TrustedReferences::none().signers(registry.clone());
    let stored = log.store();
    let report = stored.verify(references());
    let (_, replay) = replayed(stored.export(ALL).as_bytes(), references()).unwrap();
    assert_eq!((found(&replay), replay.covered), (found(&report), report.covered));
    let with_file = references()
        .checkpoint_file(log.external_file().as_bytes())
        .unwrap();
    let external = stored.verify(with_file);
    assert_eq!(
        (found(&external), external.covered),
        (found(&report), report.covered)
    );
    (found(&report), report.covered)
}

const NEXT: Option<(&str, u8)> = Some(("next", 2));
const KERNEL: Option<(&str, u8)> = Some(("kernel", 1));
const NOT_VALID: Code = Code::CheckpointSignerNotValid;

/// The clock was ahead when `kernel` signed: by timestamps alone, it was already retired.
#[test]
fn signatures_before_the_retirement_are_accepted() {
    let ahead = registry(at(1));
    let retired = (12, "host-1", "retired", false);
    assert_eq!(verdict(&log(&[retired], NEXT), &ahead), (None, Some(20)));
    // Without another signer's checkpoint it proves nothing, but it is not a problem.
    assert_eq!(verdict(&log(&[retired], None), &ahead), (None, None));
    // A retirement that no event records is judged by timestamps.
    assert_eq!(
        verdict(&log(&[], NEXT), &ahead),
        (Some((10, NOT_VALID)), Some(20))
    );
    assert_eq!(verdict(&log(&[], NEXT), &registry(at(10))), (None, Some(20)));
    // Signatures within the second of the retirement are accepted.
    let same = Time::from_micros(at(10).micros() + 999_999);
    assert_eq!(verdict(&log(&[retired], NEXT), &registry(same)), (None, Some(20)));
}

#[test]
fn signatures_after_the_retirement_are_rejected() {
    // The clock was behind: by timestamps it was not retired yet.
    let behind = registry(at(1000));
    let retired = (12, "host-1", "retired", false);
    assert_eq!(
        verdict(&log(&[retired], KERNEL), &behind),
        (Some((20, NOT_VALID)), Some(10))
    );
    // Signatures of a compromised key are rejected from `valid_until` on, wherever they are in the log.
    let text = add("", "kernel", &key(1).pk, None, None).unwrap();
    let text = add(&text, "next", &key(2).pk, None, None).unwrap();
    let compromised = Registry::parse(&retire(&text, "kernel", at(9).system()).unwrap()).unwrap();
    assert_eq!(
        verdict(&log(&[retired], NEXT), &compromised),
        (Some((10, NOT_VALID)), Some(20))
    );
}

/// Each host of a fleet reloads the registry by itself.
#[test]
fn the_last_host_to_retire_a_signer_decides() {
    let registry = registry(at(12));
    let first = (12, "host-1", "retired", false);
    for (events, expected) in [
        (&[first, (22, "host-2", "retired", false)][..], None),
        // The same host records it again, or another host finds it at its start.
        (&[first, (22, "host-1", "retired", false)], Some((20, NOT_VALID))),
        (&[first, (22, "host-2", "retired", true)], Some((20, NOT_VALID))),
        // It was retired while no host ran.
        (&[(22, "host-1", "retired", true)], None),
        // It was reactivated meanwhile.
        (
            &[
                first,
                (15, "host-1", "reactivated", false),
                (22, "host-1", "retired", false),
            ],
            None,
        ),
    ] {
        assert_eq!(verdict(&log(events, KERNEL), &registry).0, expected, "{events:?}");
    }
}

#[test]
fn manifests_are_judged_by_the_position_of_their_events() {
    for (place, expected) in [(13, None), (27, Some((0, Code::ManifestSignerNotValid)))] {
        let mut log = log(&[(20, "host-1", "retired", false)], None);
        log.notes.clear();
        let hash = Hash::of(b"manifest");
        let mut event = Event::new(Kind::ManifestSignature, at(place));
        event.decision = Some(Decision::Allowed);
        event.signer_id = Some("kernel".to_owned());
        event
            .detail
            .insert("manifest_hash".to_owned(), json!(hash.to_string()));
        let manifest = Manifest {
            id: event.id,
            hash: hash.0.to_vec(),
            signature: key(1).sk.sign(hash.0, None).to_vec(),
            signer: "kernel".to_owned(),
            signed_at: at(place).to_string(),
        };
        if place <= 25 {
            log.edit(place as usize, |record| record.event = event);
            log.rewrite_from(1);
        } else {
            log.push(Event::new(Kind::Host, at(26)));
            log.push(event);
        }
        log.manifests.push(manifest);
        // By timestamps alone the result would be the opposite.
        let registry = registry(at(if place <= 25 { 1 } else { 1000 }));
        let report = log.verify(TrustedReferences::none().signers(registry));
        assert_eq!(found(&report), expected, "{report:?}");
    }
}

#[test]
fn a_signer_without_the_checkpoint_use_is_rejected() {
    let text =
        "[signers.kernel]\npublic_key = \"KEY\"\nstatus = \"active\"\nuses = [\"payload\", \"manifest\"]\n";
    let text = text.replace("KEY", &postern_signers::format_key(&key(1).pk));
    let registry = Registry::parse(&text).unwrap();
    assert_eq!(
        verdict(&Log::new(15), &registry),
        (Some((10, Code::CheckpointSignerUse)), None)
    );
    let registry = Registry::parse(&text.replace("\"payload\", \"manifest\"", "\"checkpoint\"")).unwrap();
    assert_eq!(verdict(&Log::new(15), &registry), (None, Some(10)));
}
