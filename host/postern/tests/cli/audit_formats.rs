//! The formats of docs/formats.md: a verifier written from that page accepts and rejects the same logs as this one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::WorkDir;
use crate::support::log::{audit, dir, sign_manifest, write};
use serde_json::Value;

fn tree(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The signer of the logs, as an argument of the independent verifier.
fn kernel(signers: &Path) -> String {
    let text = fs::read_to_string(signers).unwrap();
    let key = text.split("ed25519:").nth(1).unwrap().split('"').next().unwrap();
    format!("kernel={key}")
}

/// A log with three checkpoints and the signature of a manifest.
fn log() -> WorkDir {
    let dir = dir();
    sign_manifest(&dir, "{}");
    write(&dir, 31..=34);
    dir
}

#[test]
fn an_independent_verifier_agrees_on_honest_and_tampered_logs() {
    let dir = log();
    let output = Command::new("python3")
        .arg(tree("tests/formats/compare.py"))
        .arg(env!("CARGO_BIN_EXE_postern"))
        .args([
            "audit.sqlite",
            "checkpoints",
            "signers.toml",
            &kernel(&dir.path("signers.toml")),
        ])
        .current_dir(dir.path("."))
        .output()
        .unwrap();
    let output_text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{output_text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let counts: Vec<usize> = output_text
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    assert!(counts[0] > 30 && counts[1] > 300, "{output_text}");
}

/// `docs/vectors/audit`: logs and the expected results of their verification.
#[test]
fn both_verifiers_agree_with_the_vectors() {
    let folder = tree("docs/vectors/audit");
    if std::env::var_os("WRITE_VECTORS").is_some() {
        write_vectors(&folder);
    }
    let dir = WorkDir::new();
    let expected: Value =
        serde_json::from_str(&fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap();
    let cases = expected.as_array().unwrap();
    assert!(cases.len() >= 12);
    for case in cases {
        let text = |name: &str| case[name].as_str();
        let file = folder.join(text("log").unwrap());
        let file = file.to_str().unwrap();
        let signers = folder.join("signers.toml");
        let notes = folder.join("checkpoints.notes");
        let mut args = vec!["audit", "replay", file, "--format", "json"];
        let mut their_args = vec![file.to_owned()];
        if case["signers"] == true {
            args.extend(["--signers", signers.to_str().unwrap()]);
            their_args.extend(["--key".to_owned(), kernel(&signers)]);
        }
        if case["checkpoints"] == true {
            args.extend(["--checkpoints", notes.to_str().unwrap()]);
            their_args.extend(["--notes".to_owned(), notes.to_str().unwrap().to_owned()]);
        }
        if let Some(head) = text("head") {
            args.extend(["--head", head]);
            their_args.extend(["--head".to_owned(), head.to_owned()]);
        }
        let report = dir.run(&args).json();
        assert_eq!(report["whole"], case["accepted"], "{case}: {report}");
        if case["accepted"] == true {
            assert_eq!(report["proven"], case["proven"], "{case}: {report}");
        }
        let code = report["problems"][0]["code"].as_str();
        assert_eq!(code, text("code"), "{case}");
        let output = Command::new("python3")
            .arg(tree("tests/formats/verify_log.py"))
            .args(their_args)
            .output();
        let their_report: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
        assert_eq!(
            their_report["accepted"], case["accepted"],
            "{case}: {their_report}"
        );
        if case["accepted"] == true {
            assert_eq!(their_report["proven"], case["proven"], "{case}: {their_report}");
        }
    }
}

/// The payload, hash and note that docs/formats.md shows are those of the vectors.
#[test]
fn the_examples_on_the_page_match_the_vectors() {
    let page = fs::read_to_string(tree("docs/formats.md")).unwrap();
    let block = |name: &str| {
        let begin = format!("<!-- {name} -->\n\n```");
        let rest = page.split(&begin).nth(1).unwrap_or_else(|| panic!("{name}"));
        rest.split_once('\n')
            .unwrap()
            .1
            .split("\n```")
            .next()
            .unwrap()
            .to_owned()
    };
    let log = fs::read_to_string(tree("docs/vectors/audit/whole.jsonl")).unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events: Vec<_> = lines.iter().filter_map(|line| line.get("event")).collect();
    assert_eq!(events[0]["payload"], block("first payload"));
    assert_eq!(events[0]["hash"], block("first hash"));
    let note = lines.iter().find_map(|line| line.get("checkpoint")).unwrap();
    assert_eq!(note["note"].as_str().unwrap().trim_end(), block("note"));
}

/// Regenerates the vectors from a new log: `WRITE_VECTORS=1 cargo test --workspace --test cli audit_formats`.
fn write_vectors(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let dir = log();
    let whole = audit(&dir, "export", &[]).out;
    fs::write(dir.path("whole.jsonl"), &whole).unwrap();
    let status = Command::new("python3")
        .arg(tree("tests/formats/write_vectors.py"))
        .arg(dir.path("whole.jsonl"))
        .arg(dir.path("checkpoints"))
        .arg(dir.path("signers.toml"))
        .arg(folder)
        .status()
        .unwrap();
    assert!(status.success());
}
