//! A signer that is retired takes back nothing that it signed, whatever clocks said; and signs nothing more.

use postern_audit::verify::{Code, TrustedReferences};
use postern_audit::{Decision, Event, Hash, Kind, Time};
use postern_signers::{Registry, add, retire, retire_now};
use serde_json::json;

use crate::support::{ALL, Log, Manifest, at, found, key, note, replayed};

/// `kernel` was retired at a moment, and `next` signs.
fn registry(retired: Time) -> Registry {
    let text = add("", "kernel", &key(1).pk, None, None).unwrap();
    let text = add(&text, "next", &key(2).pk, None, None).unwrap();
    Registry::parse(&retire_now(&text, "kernel", retired.system()).unwrap()).unwrap()
}

fn told(seq: u64, host: &str, reason: &str, found: bool) -> Event {
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

/// 25 events, of which some tell of `kernel`; checkpoints over 10 by `kernel`, and over 20 by another.
fn log(events: &[(usize, &str, &str, bool)], second: Option<(&str, u8)>) -> Log {
    let mut log = Log::new(25);
    for (seq, host, reason, found) in events {
        let event = told(*seq as u64, host, reason, *found);
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
    let against = || TrustedReferences::nothing().signers(registry.clone());
    let stored = log.store();
    let report = stored.verify(against());
    let (_, replay) = replayed(stored.export(ALL).as_bytes(), against()).unwrap();
    assert_eq!((found(&replay), replay.covered), (found(&report), report.covered));
    let outside = against().outside(log.outside().as_bytes()).unwrap();
    let kept = stored.verify(outside);
    assert_eq!((found(&kept), kept.covered), (found(&report), report.covered));
    (found(&report), report.covered)
}

const NEXT: Option<(&str, u8)> = Some(("next", 2));
const KERNEL: Option<(&str, u8)> = Some(("kernel", 1));
const NOT_VALID: Code = Code::CheckpointSignerNotValid;

/// The clock was an hour ahead when `kernel` signed: by time alone, it had been retired by then.
#[test]
fn what_stands_before_the_retirement_counts() {
    let ahead = registry(at(1));
    let retired = (12, "host-1", "retired", false);
    assert_eq!(verdict(&log(&[retired], NEXT), &ahead), (None, Some(20)));
    // As long as nobody else covers it, it proves nothing; but it is no fault.
    assert_eq!(verdict(&log(&[retired], None), &ahead), (None, None));
    // What nobody recorded is judged by time.
    assert_eq!(
        verdict(&log(&[], NEXT), &ahead),
        (Some((10, NOT_VALID)), Some(20))
    );
    assert_eq!(verdict(&log(&[], NEXT), &registry(at(10))), (None, Some(20)));
    // Nothing that was signed in the second of the retirement is taken back.
    let same = Time::from_micros(at(10).micros() + 999_999);
    assert_eq!(verdict(&log(&[retired], NEXT), &registry(same)), (None, Some(20)));
}

#[test]
fn what_stands_behind_it_does_not() {
    // By a clock that was behind, it was not retired yet.
    let behind = registry(at(1000));
    let retired = (12, "host-1", "retired", false);
    assert_eq!(
        verdict(&log(&[retired], KERNEL), &behind),
        (Some((20, NOT_VALID)), Some(10))
    );
    // A key that was not safe any more counts no later than it was said, wherever it stands.
    let text = add("", "kernel", &key(1).pk, None, None).unwrap();
    let text = add(&text, "next", &key(2).pk, None, None).unwrap();
    let unsafe_since = Registry::parse(&retire(&text, "kernel", at(9).system()).unwrap()).unwrap();
    assert_eq!(
        verdict(&log(&[retired], NEXT), &unsafe_since),
        (Some((10, NOT_VALID)), Some(20))
    );
}

/// Each host of a fleet reads the registry by itself.
#[test]
fn the_last_host_to_retire_a_signer_decides() {
    let registry = registry(at(12));
    let first = (12, "host-1", "retired", false);
    for (events, expected) in [
        (&[first, (22, "host-2", "retired", false)][..], None),
        // The same host says it again, or finds it at a start.
        (&[first, (22, "host-1", "retired", false)], Some((20, NOT_VALID))),
        (&[first, (22, "host-2", "retired", true)], Some((20, NOT_VALID))),
        // It was retired while no host ran.
        (&[(22, "host-1", "retired", true)], None),
        // It was back in service meanwhile.
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
fn manifests_are_judged_by_the_place_of_their_events() {
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
        // By time alone it would be the other way round.
        let registry = registry(at(if place <= 25 { 1 } else { 1000 }));
        let report = log.verify(TrustedReferences::nothing().signers(registry));
        assert_eq!(found(&report), expected, "{report:?}");
    }
}

/// Signers whose uses do not name checkpoints sign none.
#[test]
fn a_signature_for_another_use_is_no_checkpoint() {
    let text =
        "[signers.kernel]\npublic_key = \"KEY\"\nstatus = \"active\"\nuses = [\"payload\", \"manifest\"]\n";
    let text = text.replace("KEY", &postern_signers::write_key(&key(1).pk));
    let registry = Registry::parse(&text).unwrap();
    assert_eq!(
        verdict(&Log::new(15), &registry),
        (Some((10, Code::CheckpointSignerUse)), None)
    );
    let registry = Registry::parse(&text.replace("\"payload\", \"manifest\"", "\"checkpoint\"")).unwrap();
    assert_eq!(verdict(&Log::new(15), &registry), (None, Some(10)));
}
