//! What shows only against signatures, and against what was kept elsewhere.

use postern_audit::verify::{Code, KeptHead, TrustedReferences};
use postern_audit::{Checkpoint, Hash, Note, Signature};

use crate::support::{Log, ORIGIN, at, found, key, note, registry, signed};

/// Held against signers and a file of checkpoints.
fn outside(log: &Log) -> TrustedReferences {
    signed().outside(log.outside().as_bytes()).unwrap()
}

fn head(log: &Log, size: usize) -> TrustedReferences {
    let kept = format!(
        "{size}:{}",
        Hash(log.rows[size - 1].hash.clone().try_into().unwrap())
    );
    signed().head(kept.parse().unwrap())
}

#[test]
fn a_tail_that_was_cut() {
    let whole = Log::new(20);
    let mut cut = whole.clone();
    cut.rows.truncate(15);
    assert_eq!(found(&cut.verify(signed())), Some((16, Code::TailMissing)));
    // The checkpoints deleted with it: nothing inside shows it.
    cut.notes.truncate(1);
    assert_eq!(found(&cut.verify(signed())), None);
    assert_eq!(found(&cut.verify(outside(&whole))), Some((16, Code::TailMissing)));
    assert_eq!(
        found(&cut.verify(head(&whole, 20))),
        Some((16, Code::TailMissing))
    );
    assert_eq!(found(&cut.verify(head(&whole, 15))), None);
    // All of it.
    cut.rows.clear();
    assert_eq!(found(&cut.verify(signed())), Some((1, Code::TailMissing)));
    cut.notes.clear();
    assert_eq!(found(&cut.verify(outside(&whole))), Some((1, Code::TailMissing)));
    assert_eq!(found(&cut.verify(head(&whole, 20))), Some((1, Code::TailMissing)));
}

#[test]
fn a_log_that_was_replaced_or_rewritten() {
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
            "the signed ones left as they were"
        );
        assert_eq!(
            found(&log.verify(TrustedReferences::nothing())),
            replaced,
            "even without signers"
        );

        // Made to fit, without the key: by another of the same name, and under an old signature.
        let mut forged = log.clone();
        for size in [10, 20] {
            forged.put(&note(&log.checkpoint(size), "kernel", &key(9)));
        }
        let seen = found(&forged.verify(signed()));
        assert_eq!(seen, Some((10, Code::CheckpointKeyId)));
        let mut forged = log.clone();
        for size in [10, 20] {
            let old = Note::parse(&whole.notes[size as usize / 10 - 1].1).unwrap();
            forged.put(&Note::new(log.checkpoint(size), old.signatures).unwrap());
        }
        let seen = found(&forged.verify(signed()));
        assert_eq!(seen.map(|(_, code)| code), Some(Code::CheckpointSignature));

        // No checkpoint left.
        log.notes.clear();
        let report = log.verify(signed());
        assert_eq!(
            (found(&report), report.covered, report.uncovered()),
            (None, None, 25)
        );
        let report = log.verify(outside(&whole));
        assert!(
            report
                .problems
                .iter()
                .any(|it| Some((it.seq.unwrap(), it.code)) == replaced),
            "{report:?}"
        );
        // What fits still is missing all the same.
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

/// What is done to the checkpoint over 20 events, and what is found.
type Forgery = (&'static str, fn(&Log) -> Note, Option<Code>);

fn twenty(log: &Log, change: impl FnOnce(&mut Checkpoint)) -> Checkpoint {
    let mut checkpoint = log.checkpoint(20);
    change(&mut checkpoint);
    checkpoint
}

const FORGERIES: &[Forgery] = &[
    ("none", |log| note(&log.checkpoint(20), "kernel", &key(1)), None),
    (
        "a key of somebody",
        |log| note(&log.checkpoint(20), "kernel", &key(9)),
        Some(Code::CheckpointKeyId),
    ),
    (
        "a key of somebody, and the key id of the signer",
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
        "a signer that was retired before",
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
fn checkpoints_that_are_not_the_signers() {
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
fn the_file_outside_is_verified_too() {
    for (name, forge, code) in FORGERIES {
        let log = Log::new(25);
        let mut file = log.clone();
        file.put(&forge(&log));
        let report = log.verify(outside(&file));
        assert_eq!(found(&report), code.map(|code| (20, code)), "{name}: {report:?}");
    }
}

#[test]
fn rows_of_checkpoints() {
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
        let against = outside(&log);
        tamper(&mut log);
        let report = log.verify(against);
        assert_eq!(found(&report), expected, "{number}: {report:?}");
    }
}

#[test]
fn times_of_checkpoints_do_not_go_back() {
    // Clocks of two hosts may be apart, but not for long.
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
fn a_retired_signer_counts_while_it_was_valid() {
    let mut log = Log::new(25);
    log.put(&note(&log.checkpoint(10), "former", &key(2)));
    let report = log.verify(signed());
    assert_eq!((found(&report), report.covered), (None, Some(20)), "{report:?}");
}

#[test]
fn which_log_is_meant_can_be_said() {
    let log = Log::new(25);
    assert_eq!(found(&log.verify(signed().origin(ORIGIN))), None);
    let report = log.verify(signed().origin("another"));
    assert_eq!(found(&report), Some((10, Code::CheckpointOrigin)));
}

#[test]
fn without_signers_nothing_is_called_verified() {
    let log = Log::new(25);
    let report = log.verify(TrustedReferences::nothing());
    assert!(report.is_whole() && !report.signatures_verified, "{report:?}");
    assert_eq!(
        (report.checkpoints, report.covered, report.uncovered()),
        (2, None, 25)
    );
    // Nor with signers where nobody signed.
    let report = log.verify(TrustedReferences::nothing().signers(registry()));
    assert!(report.signatures_verified);
}

#[test]
fn a_file_with_a_write_that_was_cut_short() {
    let log = Log::new(25);
    let text = log.outside();
    let cut: String = text.chars().take(100).collect();
    let torn = format!("{cut}\n\n{text}");
    let report = log.verify(signed().outside(torn.as_bytes()).unwrap());
    assert_eq!(
        (found(&report), report.torn, report.kept_outside),
        (None, 1, 2),
        "{report:?}"
    );
}

#[test]
fn heads_are_read_as_they_are_printed() {
    let hash = Hash::of(b"x");
    assert_eq!(format!("7:{hash}").parse(), Ok(KeptHead { size: 7, hash }));
    for text in [
        "",
        "7",
        "7:",
        "x:00",
        "7:00",
        &format!("-1:{hash}"),
        &format!("7:{hash}0"),
    ] {
        assert!(text.parse::<KeptHead>().is_err(), "{text}");
    }
}
