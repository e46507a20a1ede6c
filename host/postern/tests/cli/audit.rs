//! `postern audit …` on a log that the host's writer wrote.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::support::WorkDir;
use crate::support::log::{STORE, audit, dir, write};

/// Replaces the `nth` occurrence of `from` in the bytes of the database with `to`.
fn edit(dir: &WorkDir, from: &str, to: &str, nth: usize) {
    assert_eq!(from.len(), to.len());
    let mut bytes = std::fs::read(dir.path("audit.sqlite")).unwrap();
    let mut places =
        (0..bytes.len() - from.len()).filter(|place| bytes[*place..].starts_with(from.as_bytes()));
    let place = places.nth(nth).unwrap();
    bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
    std::fs::write(dir.path("audit.sqlite"), bytes).unwrap();
}

/// The sequence number of the changed event. It is read from the store, since SQLite fills a page from its end.
fn changed(dir: &WorkDir) -> u64 {
    let run = audit(dir, "query", &["--format", "json"]);
    let line = run
        .out
        .lines()
        .find(|line| line.contains("\"sound\":false"))
        .unwrap();
    let document: serde_json::Value = serde_json::from_str(line).unwrap();
    document["record"]["seq"].as_u64().unwrap()
}

#[test]
fn an_intact_log_is_verified() {
    let dir = dir();
    let references = ["--signers", "signers.toml", "--checkpoints", "checkpoints"];
    let run = audit(&dir, "verify", &references);
    assert!(
        run.code == 0
            && run.says("intact: no event was changed")
            && run.says("signed up to event 30, the last"),
        "{run:?}"
    );
    assert!(
        !run.out.contains('\u{1b}') && run.err.is_empty(),
        "no colours and no progress bar: {run:?}"
    );
    let run = audit(&dir, "verify", &[&references[..], &["--format", "json"]].concat());
    let report = run.json();
    assert_eq!(
        (
            run.code,
            &report["whole"],
            &report["covered"],
            &report["uncovered"]
        ),
        (0, &true.into(), &30.into(), &0.into())
    );

    // Without signers, no signature is reported as verified.
    let run = audit(&dir, "verify", &["--checkpoints", "checkpoints"]);
    assert!(
        run.code == 4 && run.says("signatures were NOT verified") && !run.says("intact: no event"),
        "{run:?}"
    );
    let run = audit(&dir, "verify", &["--signers", "others.toml"]);
    assert!(run.code == 2 && run.says("checkpoint_key_id"), "{run:?}");
}

#[test]
fn a_changed_byte_is_detected() {
    let dir = dir();
    edit(&dir, "edge-1", "edge-2", 11);
    let seq = changed(&dir);
    let run = audit(&dir, "verify", &["--signers", "signers.toml"]);
    assert!(
        run.code == 2 && run.says(&format!("TAMPERED, first at event {seq} (payload_changed)")),
        "{run:?}"
    );
    let run = audit(&dir, "verify", &["--format", "json"]);
    let problem = &run.json()["problems"][0];
    assert_eq!(
        (&problem["seq"], &problem["code"]),
        (&seq.into(), &"payload_changed".into())
    );
    let run = audit(&dir, "tail", &["-n", "30"]);
    assert!(run.says("its payload does not match its hash"), "{run:?}");

    let dir = crate::support::log::dir();
    edit(&dir, "\u{2014} kernel", "\u{2014} kermel", 0);
    let run = audit(&dir, "verify", &["--signers", "signers.toml"]);
    assert!(run.code == 2 && run.says("checkpoint_signer_unknown"), "{run:?}");
}

#[test]
fn an_older_copy_is_detected_by_a_kept_head() {
    let dir = dir();
    std::fs::copy(dir.path("audit.sqlite"), dir.path("old")).unwrap();
    write(&dir, 31..=40);
    let head = audit(&dir, "head", &["--format", "json"]).json();
    let keep = head["keep"].as_str().unwrap();
    assert_eq!(
        (&head["size"], &head["checkpoint"]["size"]),
        (&40.into(), &40.into())
    );
    assert!(audit(&dir, "head", &[]).out.starts_with(&format!("{keep}\n")));
    for given in [["--checkpoints", "checkpoints"], ["--head", keep]] {
        let verify = |store: &str| {
            let store = format!("sqlite:{store}");
            dir.run(
                &[
                    &["audit", "verify", "--signers", "signers.toml", "--store", &store][..],
                    &given,
                ]
                .concat(),
            )
        };
        assert_eq!(verify("audit.sqlite").code, 0);
        let run = verify("old");
        assert!(
            run.code == 2 && run.says("first at event 31 (tail_missing)"),
            "{run:?}"
        );
    }
    let run = dir.run(&[
        "audit",
        "verify",
        "--signers",
        "signers.toml",
        "--store",
        "sqlite:old",
    ]);
    assert_eq!(run.code, 0, "the copy itself is intact: {run:?}");
}

#[test]
fn queries_find_events() {
    let dir = dir();
    let run = audit(
        &dir,
        "query",
        &["--subject", "ann", "--decision", "denied", "--since", "1h"],
    );
    let seqs: Vec<_> = run
        .out
        .lines()
        .map(|line| line.split_whitespace().next().unwrap())
        .collect();
    assert_eq!(seqs.len(), 3, "{run:?}");
    let run = audit(&dir, "query", &["--request-id", "request-7", "--format", "json"]);
    let subject = &run.json()["record"]["subject"];
    assert_eq!(subject, "bob\u{1b}[2J\n");
    let run = audit(&dir, "query", &["--request-id", "request-7"]);
    assert!(
        run.out.lines().count() == 1 && run.says(r"subject=bob\u{1b}[2J\n"),
        "{run:?}"
    );
    let run = audit(&dir, "query", &["--until", "2020-01-01T00:00:00Z"]);
    assert_eq!((run.code, run.out.as_str()), (0, ""));
    let run = audit(&dir, "query", &["--limit", "2"]);
    assert!(
        run.out.lines().count() == 2 && run.err.contains("there may be more"),
        "{run:?}"
    );
    let run = audit(&dir, "tail", &["-n", "3"]);
    assert_eq!(run.out.lines().count(), 3, "{run:?}");
}

#[test]
fn new_events_are_followed() {
    let dir = dir();
    let mut child = Command::new(env!("CARGO_BIN_EXE_postern"))
        .args(["audit", "tail", "-n", "1", "--follow", "--format", "json"])
        .args(STORE)
        .current_dir(dir.path("."))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    write(&dir, 31..=32);
    let next: Vec<String> = lines.by_ref().take(2).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(first.contains("request-30"), "{first}");
    assert!(
        next[0].contains("request-31") && next[1].contains("request-32"),
        "{next:?}"
    );
}

#[test]
fn an_export_is_verified_elsewhere() {
    let dir = dir();
    let run = audit(&dir, "export", &["-o", "log.jsonl"]);
    assert!(
        run.code == 0 && run.err.contains("exported up to event 30: keep 30:"),
        "{run:?}"
    );
    let run = audit(&dir, "export", &["-o", "log.jsonl"]);
    assert!(
        run.code == 3 && run.says("cannot write log.jsonl"),
        "never overwritten: {run:?}"
    );
    std::fs::remove_file(dir.path("audit.sqlite")).unwrap();
    let references = ["--signers", "signers.toml", "--checkpoints", "checkpoints"];
    let run = dir.run(&[&["audit", "replay", "log.jsonl"][..], &references].concat());
    assert!(
        run.code == 0 && run.says("intact: no event was changed"),
        "{run:?}"
    );
    let text = std::fs::read_to_string(dir.path("log.jsonl")).unwrap();
    let run = dir.run_with(
        &["audit", "replay", "--signers", "signers.toml"],
        text.replacen("edge-1", "edge-2", 1).as_bytes(),
    );
    assert!(run.code == 2 && run.says("(payload_changed)"), "{run:?}");
    let run = dir.run_with(&["audit", "replay"], b"hello");
    assert!(run.code == 3 && run.says("not an export"), "{run:?}");
}

#[test]
fn a_partial_export_is_reported_as_partial() {
    let dir = dir();
    let run = audit(&dir, "export", &["--from-seq", "8", "--to-seq", "20"]);
    let replayed = dir.run_with(
        &["audit", "replay", "--signers", "signers.toml"],
        run.out.as_bytes(),
    );
    assert!(
        replayed.code == 4 && replayed.says("a part of a log: the hash before event 8"),
        "{replayed:?}"
    );
    let run = audit(&dir, "export", &["--since", "2100-01-01T00:00:00Z"]);
    let replayed = dir.run_with(&["audit", "replay"], run.out.as_bytes());
    assert!(replayed.code == 4 && replayed.says("0 of them"), "{replayed:?}");
}

#[test]
fn unreadable_input_is_an_error() {
    let dir = dir();
    dir.file("bad.toml", "[signers");
    for (args, says) in [
        (&["verify"][..], "no store given"),
        (
            &["verify", "--store", "sqlite:absent"],
            "absent: there is no such file",
        ),
        (&["verify", "--store", "sqlite:signers.toml"], "not a database"),
        (
            &["verify", "--store", "mysql://ann:hunter2@host/x"],
            "sqlite:PATH or postgres://",
        ),
        (
            &["verify", "--store", "postgres://ann:hunter2@127.0.0.1:1/x"],
            "the store cannot be read",
        ),
        (
            &[
                "verify",
                "--store",
                "sqlite:audit.sqlite",
                "--signers",
                "bad.toml",
            ],
            "bad.toml: line 1",
        ),
        (
            &[
                "verify",
                "--store",
                "sqlite:audit.sqlite",
                "--checkpoints",
                "absent",
            ],
            "cannot read absent",
        ),
        (
            &["verify", "--store", "sqlite:audit.sqlite", "--head", "7"],
            "write SIZE:HASH",
        ),
        (
            &["query", "--store", "sqlite:audit.sqlite", "--kind", "nothing"],
            "unknown variant",
        ),
        (
            &["query", "--store", "sqlite:audit.sqlite", "--since", "yesterday"],
            "1h for an hour ago",
        ),
        (
            &[
                "export",
                "--store",
                "sqlite:audit.sqlite",
                "--from-seq",
                "9",
                "--to-seq",
                "8",
            ],
            "no event in that range",
        ),
        (&["replay", "absent.jsonl"], "cannot read absent.jsonl"),
    ] {
        let run = dir.run(&[&["audit"], args].concat());
        assert!(
            run.code == 3 && run.says(says) && !run.says("hunter2"),
            "{args:?}: {run:?}"
        );
    }
}

#[test]
fn the_store_can_be_named_in_the_environment() {
    let dir = dir().with("AUDIT_STORE_URL", "sqlite:audit.sqlite");
    let run = dir.run(&["audit", "verify", "--signers", "signers.toml"]);
    assert_eq!(run.code, 0, "{run:?}");
    let dir = WorkDir::new().with("AUDIT_STORE_URL", "postgres://ann:hunter2@host/x");
    assert!(!dir.run(&["audit", "verify", "--help"]).says("hunter2"));
}
