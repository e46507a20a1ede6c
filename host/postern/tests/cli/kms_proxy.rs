//! `postern kms-proxy` finds postern-kms-proxy and runs it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

/// Prints its process's id and its arguments, and ends with a code of its own.
const PROGRAM: &str = "#!/bin/sh\necho $$\nprintf '<%s>' \"$@\"\nexit 7\n";

fn install(folder: &Path) {
    let program = folder.join("postern-kms-proxy");
    fs::write(&program, PROGRAM).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
}

/// A copy of `postern` in a folder of its own, with nothing beside it.
fn run(folder: &Path, path: &Path, args: &[&str]) -> (u32, Output) {
    let postern = folder.join("postern");
    if !postern.exists() {
        let built = env!("CARGO_BIN_EXE_postern");
        fs::hard_link(built, &postern)
            .or_else(|_| fs::copy(built, &postern).map(drop))
            .unwrap();
    }
    let child = Command::new(&postern)
        .arg("kms-proxy")
        .args(args)
        .env("PATH", path)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    (child.id(), child.wait_with_output().unwrap())
}

#[test]
fn it_takes_its_place_with_all_arguments_as_they_are() {
    let (beside, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    install(elsewhere.path());
    for args in [
        &["--help"][..],
        &["--version"],
        &["-h"],
        &[],
        &["keygen", "--label", "a b", "--help"],
        &["--config", "", "--", "--check"],
        &["--", "--check"],
        &["kms-proxy", "kms-proxy"],
    ] {
        // On PATH alone, and then beside it too.
        let (id, output) = run(beside.path(), elsewhere.path(), args);
        let passed: String = args.iter().map(|argument| format!("<{argument}>")).collect();
        let passed = if args.is_empty() { "<>".to_owned() } else { passed };
        let out = String::from_utf8(output.stdout).unwrap();
        assert_eq!(out, format!("{id}\n{passed}"), "{args:?}");
        assert_eq!(output.status.code(), Some(7), "{args:?}");
    }
    install(beside.path());
    fs::write(elsewhere.path().join("postern-kms-proxy"), "#!/bin/sh\nexit 8\n").unwrap();
    let (_, output) = run(beside.path(), elsewhere.path(), &["--check"]);
    assert_eq!(output.status.code(), Some(7), "the one beside it goes first");
}

#[test]
fn where_it_is_missing_the_error_names_where_it_was_looked_for() {
    let (beside, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, output) = run(beside.path(), elsewhere.path(), &["--help"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("postern-kms-proxy is not installed"), "{err}");
    for folder in [&beside, &elsewhere] {
        let place = folder.path().join("postern-kms-proxy");
        assert!(err.contains(&place.display().to_string()), "{err}");
    }
}

#[test]
fn a_file_that_is_no_program_is_not_run() {
    let (beside, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    install(elsewhere.path());
    install(beside.path());
    // As a truncated installation leaves it: the C library would run it as a shell script, which succeeds.
    for content in ["", "exit 0\n", "\x7fEL"] {
        fs::write(beside.path().join("postern-kms-proxy"), content).unwrap();
        let (_, output) = run(beside.path(), elsewhere.path(), &["--check"]);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{content:?}: {err}");
        assert!(err.contains("not a program"), "{content:?}: {err}");
    }
}
