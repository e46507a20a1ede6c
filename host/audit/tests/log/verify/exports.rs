//! Exports, and tampering with them.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use postern_audit::export::Range;
use postern_audit::verify::{Code, TrustedReferences};
use proptest::prelude::*;

use super::support::{ALL, Log, found, key, note, replayed, signed};

fn lines(export: &str) -> Vec<String> {
    export.lines().map(|line| format!("{line}\n")).collect()
}

#[test]
fn an_export_replays_as_the_log_verifies() {
    for events in [0, 1, 25, 5000] {
        let log = Log::new(events).store();
        let export = log.export(ALL);
        let (header, report) = replayed(export.as_bytes(), signed()).unwrap();
        assert_eq!(found(&report), None, "{report:?}");
        assert_eq!(report, log.verify(signed()));
        assert_eq!(header.origin.is_some(), events >= 10);
    }
}

#[test]
fn a_partial_export_is_verified_after_its_predecessor() {
    let log = Log::new(25);
    let stored = log.store();
    let export = stored.export(Range {
        first: 8,
        last: Some(22),
    });
    let (header, report) = replayed(export.as_bytes(), signed()).unwrap();
    assert_eq!(found(&report), None, "{report:?}");
    assert_eq!((report.first, report.events, report.size), (8, 15, 22));
    assert_eq!(header.predecessor.size, 7);
    assert_eq!((report.covered, report.uncovered()), (Some(20), 2));
    // The header has the hash of the predecessor; another hash there does not match.
    let other = export.replacen(&header.predecessor.hash.to_string(), &"ab".repeat(32), 1);
    let (_, report) = replayed(other.as_bytes(), signed()).unwrap();
    assert_eq!(found(&report), Some((8, Code::LinkBroken)));
    // A head before the part proves nothing about it, one within does.
    let head = |size: usize| format!("{size}:{}", "00".repeat(32)).parse().unwrap();
    let (_, report) = replayed(export.as_bytes(), signed().head(head(5))).unwrap();
    assert_eq!(found(&report), None);
    let (_, report) = replayed(export.as_bytes(), signed().head(head(9))).unwrap();
    assert_eq!(found(&report), Some((9, Code::LogReplaced)));
    // An export that begins past the end is empty.
    let (_, report) = replayed(
        stored
            .export(Range {
                first: 40,
                last: None,
            })
            .as_bytes(),
        signed(),
    )
    .unwrap();
    assert_eq!((found(&report), report.events), (None, 0));
}

#[test]
fn tampering_with_an_export_is_detected() {
    type Tampering = (&'static str, fn(&mut Vec<String>), u64, Code);
    // Line 0 is the header, 1 to 10 are events, 11 is a checkpoint, 12 to 21 events, 22 a checkpoint.
    let tamperings: [Tampering; 12] = [
        (
            "changed",
            |all| all[7] = all[7].replace("edge-1", "edge-2"),
            7,
            Code::PayloadChanged,
        ),
        ("deleted", |all| drop(all.remove(7)), 7, Code::EventMissing),
        ("swapped", |all| all.swap(7, 8), 7, Code::EventMissing),
        (
            "twice",
            |all| all.insert(7, all[7].clone()),
            8,
            Code::EventOutOfOrder,
        ),
        (
            "a checkpoint deleted",
            |all| drop(all.remove(11)),
            26,
            Code::ExportChanged,
        ),
        (
            "a checkpoint moved",
            |all| all.swap(10, 11),
            10,
            Code::CheckpointMoved,
        ),
        (
            "the tail deleted",
            |all| drop(all.drain(15..27)),
            14,
            Code::TailMissing,
        ),
        ("the end deleted", |all| drop(all.pop()), 26, Code::LineMalformed),
        (
            "no JSON",
            |all| all[7] = "{}\n".to_owned(),
            7,
            Code::LineMalformed,
        ),
        (
            "an empty line",
            |all| all.insert(7, "\n".to_owned()),
            7,
            Code::LineMalformed,
        ),
        (
            "a line after the end",
            |all| all.push("\n".to_owned()),
            26,
            Code::ExportChanged,
        ),
        (
            "a second header",
            |all| all.insert(7, all[0].clone()),
            7,
            Code::LineMalformed,
        ),
    ];
    let export = lines(&Log::new(25).store().export(ALL));
    for (name, tamper, seq, code) in tamperings {
        let mut all = export.clone();
        tamper(&mut all);
        let (_, report) = replayed(all.concat().as_bytes(), signed()).unwrap();
        let tail_of_checkpoints = code == Code::TailMissing;
        let expected = if tail_of_checkpoints {
            (14, Code::ExportChanged)
        } else {
            (seq, code)
        };
        let expected = if name == "the tail deleted" {
            (14, found(&report).unwrap().1)
        } else {
            expected
        };
        assert_eq!(found(&report), Some(expected), "{name}: {report:?}");
    }
    for text in ["", "\n", "{}\n", "nothing", &export[1]] {
        assert!(replayed(text.as_bytes(), signed()).is_err(), "{text}");
    }
}

#[test]
fn a_tampered_log_is_exported_as_it_is() {
    let mut log = Log::new(25);
    log.edit(7, |record| record.event.status = Some(201));
    log.put(&note(&log.checkpoint(20), "kernel", &key(9)));
    let export = log.store().export(ALL);
    let (_, report) = replayed(export.as_bytes(), signed()).unwrap();
    assert_eq!(found(&report), Some((8, Code::LinkBroken)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Any change of one byte, and any truncation, is detected without a key.
    #[test]
    fn any_mutation_is_detected(place in any::<prop::sample::Index>(), byte in any::<u8>(), what in 0..5_u8) {
        let export = &*EXPORT;
        let place = place.index(export.len());
        let mut bytes = export.clone();
        match what {
            0 => bytes[place] = byte,
            1 => bytes[place] ^= 1 << (byte % 8),
            2 => bytes.insert(place, byte),
            3 => drop(bytes.remove(place)),
            _ => bytes.truncate(place),
        }
        prop_assume!(bytes != *export);
        let intact = replayed(&bytes, TrustedReferences::none()).is_ok_and(|(_, report)| report.is_intact());
        prop_assert!(!intact, "{}", String::from_utf8_lossy(&bytes));
    }

    /// So is any line that is deleted, duplicated or moved.
    #[test]
    fn any_line_out_of_place_is_detected(from in 0..16_usize, to in 0..16_usize, what in 0..3_u8) {
        let export = String::from_utf8(EXPORT.clone()).unwrap();
        let mut all = lines(&export);
        let (from, to) = (from % all.len(), to % all.len());
        match what {
            0 => drop(all.remove(from)),
            1 => all.insert(to, all[from].clone()),
            _ => all.swap(from, to),
        }
        let text = all.concat();
        prop_assume!(text != export);
        let intact = replayed(text.as_bytes(), TrustedReferences::none()).is_ok_and(|(_, report)| report.is_intact());
        prop_assert!(!intact, "{text}");
    }
}

static EXPORT: std::sync::LazyLock<Vec<u8>> =
    std::sync::LazyLock::new(|| Log::new(12).store().export(ALL).into_bytes());

/// The commands that the documentation gives to auditors without this program.
#[test]
fn jq_and_sha256sum_detect_it_too() {
    let rehash = r#"jq -r 'select(.event).event | .hash + " " + .payload' log.jsonl | while read -r hash payload; do
  [ "$(printf %s "$payload" | sha256sum)" = "$hash  -" ] || echo "not what was hashed: $payload"; done"#;
    let follow = r#"jq -rn '[inputs | select(.event).event] | range(1; length) as $n | select((.[$n].payload | fromjson.prev_hash)
  != .[$n - 1].hash) | "event \(.[$n].seq) does not follow"' log.jsonl"#;
    let documented = include_str!("../../../src/export.rs")
        .replace("//!   ", "  ")
        .replace("//! ", "");
    assert!(documented.contains(rehash) && documented.contains(follow));

    let folder = tempfile::tempdir().unwrap();
    let run = |script: &str| {
        let shell = Command::new("sh")
            .args(["-c", script])
            .current_dir(folder.path())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(shell.status.success(), "{shell:?}: needs jq and sha256sum");
        String::from_utf8(shell.stdout).unwrap()
    };
    let write = |log: &Log| std::fs::write(folder.path().join("log.jsonl"), log.store().export(ALL)).unwrap();
    let log = Log::new(12);
    write(&log);
    assert_eq!((run(rehash).as_str(), run(follow).as_str()), ("", ""));
    let mut changed = log.clone();
    let row = changed.row(7);
    row.payload = row.payload.replace("edge-1", "edge-2");
    write(&changed);
    let mut expected = String::new();
    writeln!(expected, "not what was hashed: {}", changed.row(7).payload).unwrap();
    assert_eq!(run(rehash), expected);
    let mut relinked = log.clone();
    relinked.edit(7, |record| record.event.status = Some(201));
    write(&relinked);
    assert_eq!(
        (run(rehash).as_str(), run(follow).as_str()),
        ("", "event 8 does not follow\n")
    );
}
