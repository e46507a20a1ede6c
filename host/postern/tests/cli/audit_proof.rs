//! `postern audit verify` and `replay` report what is proven and what is not, and exit with 4 if nothing is.

use crate::support::log::{audit, dir, write, write_without_checkpoint};
use crate::support::{Run, WorkDir};

const SIGNERS: [&str; 2] = ["--signers", "signers.toml"];
const HELD: [&str; 4] = ["--signers", "signers.toml", "--checkpoints", "checkpoints"];

fn verify(dir: &WorkDir, args: &[&[&str]]) -> Run {
    audit(dir, "verify", &args.concat())
}

/// The codes of the unmet proof conditions.
fn unproven_codes(dir: &WorkDir, args: &[&[&str]]) -> Vec<String> {
    let run = verify(dir, &[&args.concat(), &["--format", "json"]]);
    let report = run.json();
    let unproven = report["unproven"].as_array().unwrap();
    assert_eq!(
        run.code,
        if unproven.is_empty() { 0 } else { 4 },
        "exit code and report agree: {run:?}"
    );
    let verdict = if unproven.is_empty() { "proven" } else { "unproven" };
    assert_eq!(report["verdict"], verdict);
    unproven
        .iter()
        .map(|entry| entry["code"].as_str().unwrap().to_owned())
        .collect()
}

fn sql(dir: &WorkDir, statement: &str) {
    crate::support::log::sql(&dir.path("audit.sqlite"), statement);
}

#[test]
fn a_log_without_a_signed_checkpoint_is_not_proven() {
    let dir = dir();
    assert_eq!(unproven_codes(&dir, &[&HELD]), [""; 0]);
    assert_eq!(unproven_codes(&dir, &[]), ["no_signers"]);
    assert_eq!(
        unproven_codes(&dir, &[&["--checkpoints", "checkpoints"]]),
        ["no_signers"]
    );
    sql(&dir, "DELETE FROM audit_checkpoints");
    assert_eq!(unproven_codes(&dir, &[&SIGNERS]), ["no_checkpoint"]);
    sql(&dir, "DELETE FROM audit_events");
    assert_eq!(unproven_codes(&dir, &[&SIGNERS]), ["empty"]);
    let run = verify(&dir, &[&SIGNERS]);
    assert!(
        run.code == 4 && run.out.starts_with("NOT PROVEN (empty)"),
        "{run:?}"
    );
}

#[test]
fn a_kept_head_proves_the_events_up_to_it() {
    let dir = dir();
    let keep = audit(&dir, "head", &["--format", "json"]).json()["keep"]
        .as_str()
        .unwrap()
        .to_owned();
    sql(&dir, "DELETE FROM audit_checkpoints");
    assert_eq!(unproven_codes(&dir, &[&["--head", &keep]]), [""; 0]);
    // The head of an empty log is a prefix of every log.
    let none = format!("0:{}", "0".repeat(64));
    assert_eq!(unproven_codes(&dir, &[&["--head", &none]]), ["no_signers"]);
    write_without_checkpoint(&dir, 31..=33);
    assert_eq!(unproven_codes(&dir, &[&["--head", &keep]]), [""; 0]);
    assert_eq!(
        unproven_codes(&dir, &[&["--head", &keep, "--require-covered"]]),
        ["uncovered"]
    );
}

#[test]
fn events_after_the_last_checkpoint_are_reported_as_not_proven() {
    let dir = dir();
    write_without_checkpoint(&dir, 31..=181);
    let run = verify(&dir, &[&HELD]);
    assert!(
        run.code == 0
            && run.out.starts_with("intact up to event 30")
            && run.says("the 151 events after it NOT proven"),
        "{run:?}"
    );
    assert!(!run.says("intact: no event was changed"), "{run:?}");
    let run = verify(&dir, &[&HELD, &["--require-covered"]]);
    assert!(
        run.code == 4 && run.says("NOT PROVEN (uncovered): events 31 to 181 are not proven"),
        "{run:?}"
    );
    let run = verify(&dir, &[&HELD, &["--format", "json"]]);
    let report = run.json();
    assert_eq!(
        (&report["proven"], &report["uncovered"]),
        (&30.into(), &151.into())
    );
}

#[test]
fn old_checkpoints_do_not_meet_the_maximum_age() {
    let dir = dir();
    assert_eq!(unproven_codes(&dir, &[&HELD, &["--max-age", "1h"]]), [""; 0]);
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(
        unproven_codes(&dir, &[&HELD, &["--max-age", "10ms"]]),
        ["checkpoint_age"]
    );
    let keep = audit(&dir, "head", &["--format", "json"]).json()["keep"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        unproven_codes(&dir, &[&["--head", &keep, "--max-age", "1h"]]),
        ["checkpoint_age"]
    );
    let run = verify(&dir, &[&["--max-age", "soon"]]);
    assert!(run.code == 3 && run.says("write 90s, 15m or 1h"), "{run:?}");
}

#[test]
fn an_empty_torn_short_or_foreign_checkpoint_file_is_reported() {
    let dir = dir();
    let whole = std::fs::read_to_string(dir.path("checkpoints")).unwrap();
    write(&dir, 31..=35);
    let both = std::fs::read_to_string(dir.path("checkpoints")).unwrap();
    assert_eq!(unproven_codes(&dir, &[&HELD]), [""; 0]);
    for (file, expected, says) in [
        ("", "outside_empty", "is empty"),
        ("\n\n", "outside_empty", "is empty"),
        ("rules:\n- name: a\n", "outside_empty", "is it another file?"),
        (
            &whole,
            "outside_short",
            "ends with one over 30 events, the log's own go up to 35",
        ),
        (&both[..both.len() - 40], "outside_torn", "from line 8 on"),
        (&both[..whole.len() + 5], "outside_torn", "from line 8 on"),
    ] {
        dir.file("checkpoints", file);
        assert_eq!(unproven_codes(&dir, &[&HELD]), [expected], "{file:?}");
        let run = verify(&dir, &[&HELD]);
        assert!(run.code == 4 && run.says(says), "{file:?}: {run:?}");
    }
    // A torn note in the middle is harmless, since later checkpoints cover its events; it is still reported.
    dir.file("checkpoints", &format!("{}\n\n{both}", &whole[..40]));
    let run = verify(&dir, &[&HELD]);
    assert!(
        run.code == 0 && run.says("torn        1 in the checkpoint file") && run.says("line 1)"),
        "{run:?}"
    );
    // The file of another log.
    dir.file(
        "checkpoints",
        &both.replace("postern.example/audit", "postern.example/other"),
    );
    let run = verify(&dir, &[&HELD]);
    assert!(run.code == 2 && run.says("postern.example/other"), "{run:?}");
    std::fs::remove_file(dir.path("checkpoints")).unwrap();
    let run = verify(&dir, &[&HELD]);
    assert!(run.code == 3 && run.says("cannot read checkpoints"), "{run:?}");
}

#[test]
fn an_export_is_proven_by_the_same_rules() {
    let dir = dir();
    let export = audit(&dir, "export", &[]).out;
    let replay = |args: &[&str]| dir.run_with(&[&["audit", "replay"], args].concat(), export.as_bytes());
    let run = replay(&HELD);
    assert!(
        run.code == 0 && run.says("intact: no event was changed"),
        "{run:?}"
    );
    let run = replay(&[]);
    assert!(run.code == 4 && run.says("NOT PROVEN (no_signers)"), "{run:?}");
    dir.file("checkpoints", "");
    let run = replay(&HELD);
    assert!(run.code == 4 && run.says("NOT PROVEN (outside_empty)"), "{run:?}");
}

#[test]
fn the_report_names_the_log_and_missing_external_references() {
    let dir = dir();
    let run = verify(&dir, &[&SIGNERS]);
    assert!(
        run.code == 0
            && run.says("log         postern.example/audit")
            && run.says("no external reference was given"),
        "{run:?}"
    );
    assert!(
        !verify(&dir, &[&HELD]).says("no external reference"),
        "it was given"
    );
}
