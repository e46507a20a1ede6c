//! Tampering that only signatures and trusted references detect.

use postern_audit::verify::{Code, TrustedHead, TrustedReferences};
use postern_audit::{Checkpoint, Hash, Note, Signature};

use super::support::{Log, ORIGIN, at, found, key, note, registry, signed};

/// The signers, and the external checkpoint file of a log.
fn external(log: &Log) -> TrustedReferences {
    signed().checkpoint_file(log.external_file().as_bytes()).unwrap()
}

fn head(log: &Log, size: usize) -> TrustedReferences {
    let head = format!(
        "{size}:{}",
        Hash(log.rows[size - 1].hash.clone().try_into().unwrap())
    );
    signed().head(head.parse().unwrap())
}

#[test]
fn a_truncated_tail_is_detected() {
    let whole = Log::new(20);
    let mut cut = whole.clone();
    cut.rows.truncate(15);
    assert_eq!(found(&cut.verify(signed())), Some((16, Code::TailMissing)));
    // With its checkpoints deleted too, nothing in the store shows it.
    cut.notes.truncate(1);
    assert_eq!(found(&cut.verify(signed())), None);
    assert_eq!(
        found(&cut.verify(external(&whole))),
        Some((16, Code::TailMissing))
    );
    assert_eq!(
        found(&cut.verify(head(&whole, 20))),
        Some((16, Code::TailMissing))
    );
    assert_eq!(found(&cut.verify(head(&whole, 15))), None);
    // All of it.
    cut.rows.clear();
    assert_eq!(found(&cut.verify(signed())), Some((1, Code::TailMissing)));
    cut.notes.clear();
    assert_eq!(found(&cut.verify(external(&whole))), Some((1, Code::TailMissing)));
    assert_eq!(found(&cut.verify(head(&whole, 20))), Some((1, Code::TailMissing)));
}

#[test]
fn a_replaced_or_rewritten_log_is_detected() {
    let whole = Log::new(25);
    for from in [1, 5, 12] {
        let mut log = whole.clone();
        log.edit(from, |record| record.event.subject = Some("eve".to_owned()));
        log.rewrite_from(from);
        let first = if from <= 10 { 10 } else { 20 };
        let replaced = Some((first, Code::LogReplaced));
        assert_eq!(
            found(&log.verify(signed())),
            replaced,
            "with the original checkpoints"
        );
        assert_eq!(
            found(&log.verify(TrustedReferences::none())),
            replaced,
            "even without signers"
        );

        // Forged checkpoints without the key: by another key of the same name, and with an old signature.
        let mut forged = log.clone();
        for size in [10, 20] {
            forged.put(&note(&log.checkpoint(size), "kernel", &key(9)));
        }
        let result = found(&forged.verify(signed()));
        assert_eq!(result, Some((10, Code::CheckpointKeyId)));
        let mut forged = log.clone();
        for size in [10, 20] {
            let old = Note::parse(&whole.notes[size as usize / 10 - 1].1).unwrap();
            forged.put(&Note::new(log.checkpoint(size), old.signatures).unwrap());
        }
        let result = found(&forged.verify(signed()));
        assert_eq!(result.map(|(_, code)| code), Some(Code::CheckpointSignature));

        // No checkpoint left.
        log.notes.clear();
        let report = log.verify(signed());
        assert_eq!(
            (found(&report), report.covered, report.uncovered()),
            (None, None, 25)
        );
        let report = log.verify(external(&whole));
        assert!(
            report
                .problems
                .iter()
                .any(|it| Some((it.seq.unwrap(), it.code)) == replaced),
            "{report:?}"
        );
        // A checkpoint that still matches is reported as missing.
        let expected = if from <= 10 {
            replaced
        } else {
            Some((10, Code::CheckpointMissing))
        };
        assert_eq!(found(&report), expected);
        assert_eq!(
            found(&log.verify(head(&whole, 25))),
            Some((25, Code::LogReplaced))
        );
    }
}

/// A replacement of the checkpoint over 20 events, and the code that is reported.
type Forgery = (&'static str, fn(&Log) -> Note, Option<Code>);

fn twenty(log: &Log, change: impl FnOnce(&mut Checkpoint)) -> Checkpoint {
    let mut checkpoint = log.checkpoint(20);
    change(&mut checkpoint);
    checkpoint
}

const FORGERIES: &[Forgery] = &[
    ("none", |log| note(&log.checkpoint(20), "kernel", &key(1)), None),
    (
        "another key",
        |log| note(&log.checkpoint(20), "kernel", &key(9)),
        Some(Code::CheckpointKeyId),
    ),
    (
        "another key, with the key id of the signer",
        |log| {
            let checkpoint = log.checkpoint(20);
            let signature = *key(9).sk.sign(checkpoint.body(), None);
            Note::new(checkpoint, vec![Signature::new("kernel", &key(1).pk, signature)]).unwrap()
        },
        Some(Code::CheckpointSignature),
    ),
    (
        "an unknown signer",
        |log| note(&log.checkpoint(20), "nobody", &key(1)),
        Some(Code::CheckpointSignerUnknown),
    ),
    (
        "a retired signer",
        |log| note(&log.checkpoint(20), "former", &key(2)),
        Some(Code::CheckpointSignerNotValid),
    ),
    (
        "the signature of another text",
        |log| {
            let other = note(&log.checkpoint(10), "kernel", &key(1));
            Note::new(log.checkpoint(20), other.signatures).unwrap()
        },
        Some(Code::CheckpointSignature),
    ),
    (
        "a witness beside the signer",
        |log| {
            let mut note = note(&log.checkpoint(20), "kernel", &key(1));
            note.signatures
                .insert(0, Signature::new("witness", &key(3).pk, [7; 64]));
            note
        },
        None,
    ),
    (
        "a wrong signature beside a right one",
        |log| {
            let mut note = note(&log.checkpoint(20), "kernel", &key(1));
            note.signatures
                .push(Signature::new("kernel", &key(1).pk, [7; 64]));
            note
        },
        Some(Code::CheckpointSignature),
    ),
    (
        "another log",
        |log| {
            note(
                &twenty(log, |it| it.origin = "elsewhere".to_owned()),
                "kernel",
                &key(1),
            )
        },
        Some(Code::CheckpointOrigin),
    ),
    (
        "another hash, by the signer",
        |log| note(&twenty(log, |it| it.hash = Hash::of(b"other")), "kernel", &key(1)),
        Some(Code::LogReplaced),
    ),
    (
        "made before its event",
        |log| note(&twenty(log, |it| it.time = at(19)), "kernel", &key(1)),
        Some(Code::CheckpointTime),
    ),
];

#[test]
fn forged_checkpoints_are_detected() {
    for (name, forge, code) in FORGERIES {
        let mut log = Log::new(25);
        let forged = forge(&log);
        log.put(&forged);
        let expected = code.map(|code| (20, code));
        let report = log.verify(signed());
        assert_eq!(found(&report), expected, "{name}: {report:?}");
        let covered = if code.is_none() { 20 } else { 10 };
        assert_eq!(report.covered, Some(covered), "{name}");
    }
}

#[test]
fn forged_external_checkpoints_are_detected() {
    for (name, forge, code) in FORGERIES {
        let log = Log::new(25);
        let mut file = log.clone();
        file.put(&forge(&log));
        let report = log.verify(external(&file));
        assert_eq!(found(&report), code.map(|code| (20, code)), "{name}: {report:?}");
    }
}

#[test]
fn tampering_with_the_table_of_checkpoints_is_detected() {
    type Tampering = (fn(&mut Log), Option<(u64, Code)>);
    let tamperings: [Tampering; 5] = [
        (
            |log| drop(log.notes.remove(0)),
            Some((10, Code::CheckpointMissing)),
        ),
        (|log| log.notes.clear(), Some((10, Code::CheckpointMissing))),
        (|log| log.notes[0].0 = 11, Some((10, Code::CheckpointMissing))),
        (
            |log| log.notes[1].1 = "nothing".to_owned(),
            Some((20, Code::CheckpointMalformed)),
        ),
        (
            |log| log.notes[0].1 = log.notes[1].1.clone(),
            Some((10, Code::CheckpointMoved)),
        ),
    ];
    for (number, (tamper, expected)) in tamperings.into_iter().enumerate() {
        let mut log = Log::new(25);
        let references = external(&log);
        tamper(&mut log);
        let report = log.verify(references);
        assert_eq!(found(&report), expected, "{number}: {report:?}");
    }
}

#[test]
fn times_of_checkpoints_do_not_go_back() {
    // The clocks of two hosts may differ, but not by much.
    for (made, expected) in [(at(24), None), (at(1000), Some((20, Code::CheckpointTime)))] {
        let mut log = Log::new(25);
        let late = Checkpoint {
            time: made,
            ..log.checkpoint(10)
        };
        log.put(&note(&late, "kernel", &key(1)));
        assert_eq!(found(&log.verify(signed())), expected);
    }
}

#[test]
fn a_retired_signer_is_accepted_for_the_time_it_was_valid() {
    let mut log = Log::new(25);
    log.put(&note(&log.checkpoint(10), "former", &key(2)));
    let report = log.verify(signed());
    assert_eq!((found(&report), report.covered), (None, Some(20)), "{report:?}");
}

#[test]
fn the_expected_origin_can_be_set() {
    let log = Log::new(25);
    assert_eq!(found(&log.verify(signed().origin(ORIGIN))), None);
    let report = log.verify(signed().origin("another"));
    assert_eq!(found(&report), Some((10, Code::CheckpointOrigin)));
}

#[test]
fn without_signers_no_signature_is_reported_as_verified() {
    let log = Log::new(25);
    let report = log.verify(TrustedReferences::none());
    assert!(report.is_intact() && !report.signatures_verified, "{report:?}");
    assert_eq!(
        (report.checkpoints, report.covered, report.uncovered()),
        (2, None, 25)
    );
    // With signers, signatures are verified.
    let report = log.verify(TrustedReferences::none().signers(registry()));
    assert!(report.signatures_verified);
}

#[test]
fn an_incomplete_checkpoint_in_the_external_file_is_counted() {
    let log = Log::new(25);
    let text = log.external_file();
    let cut: String = text.chars().take(100).collect();
    let torn = format!("{cut}\n\n{text}");
    let report = log.verify(signed().checkpoint_file(torn.as_bytes()).unwrap());
    assert_eq!(
        (found(&report), report.torn, report.kept_outside),
        (None, 1, 2),
        "{report:?}"
    );
}

#[test]
fn heads_are_parsed_as_they_are_printed() {
    let hash = Hash::of(b"x");
    assert_eq!(format!("7:{hash}").parse(), Ok(TrustedHead { size: 7, hash }));
    for text in [
        "",
        "7",
        "7:",
        "x:00",
        "7:00",
        &format!("-1:{hash}"),
        &format!("7:{hash}0"),
    ] {
        assert!(text.parse::<TrustedHead>().is_err(), "{text}");
    }
}
