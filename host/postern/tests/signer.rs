//! `postern signer`: a registry is made, changed and read, and what its owner wrote stays.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail this way"
)]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use support::Desk;

const KEY: &str = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const OTHER: &str = "ed25519:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=";

fn desk() -> Desk {
    Desk::new().with("POSTERN_SIGNERS", "signers.toml")
}

fn read(desk: &Desk) -> String {
    std::fs::read_to_string(desk.path("signers.toml")).unwrap()
}

fn mode(desk: &Desk) -> u32 {
    std::fs::metadata(desk.path("signers.toml"))
        .unwrap()
        .permissions()
        .mode()
        & 0o777
}

#[test]
fn a_registry_from_its_first_signer_to_its_next() {
    let desk = desk();
    let run = desk.run(&["signer", "add", "old", KEY]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.says("Added old in signers.toml") && run.says("count for payload") && run.says("SIGHUP"),
        "{run:?}"
    );
    assert_eq!(mode(&desk), 0o644);
    let add = [
        "signer",
        "add",
        "projects/p:2",
        OTHER,
        "--use",
        "checkpoint,rotation",
        "--from",
        "2026-01-01T00:00:00Z",
        "--until",
        "4102444800",
    ];
    let run = desk.run(&add);
    assert!(
        run.says("count for checkpoint, rotation from 2026-01-01T00:00:00Z until 2100-01-01T00:00:00Z"),
        "{run:?}"
    );
    let run = desk.run(&["signer", "retire", "old", "--at", "2026-06-01T12:00:00Z"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.says("signed before 2026-06-01T12:00:00Z still counts"),
        "{run:?}"
    );

    let listed = desk.run(&["signer", "list", "--format", "json"]).json();
    assert_eq!(
        listed,
        serde_json::json!({"signers": [
            {"id": "old", "state": "retired", "status": "retired", "public_key": KEY, "uses": ["payload"],
             "valid_from": null, "valid_until": "2026-06-01T12:00:00Z", "retired_at": null},
            {"id": "projects/p:2", "state": "active", "status": "active", "public_key": OTHER, "uses": ["checkpoint", "rotation"],
             "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2100-01-01T00:00:00Z", "retired_at": null},
        ]})
    );
    let text = desk.run(&["signer", "list"]).out;
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["ID", "STATE", "FROM", "UNTIL", "USES", "PUBLIC", "KEY"]
    );
    assert_eq!(
        lines[1],
        ["old", "retired", "-", "2026-06-01T12:00:00Z", "payload", KEY]
    );
    assert_eq!(lines[2][..2], ["projects/p:2", "active"]);
}

#[test]
fn comments_and_mode_stay() {
    let desk = desk();
    let ours =
        format!("# ours\n[signers.a] # the first\npublic_key = \"{KEY}\"\nstatus = \"active\" # for now\n");
    desk.file("signers.toml", &ours);
    let path = desk.path("signers.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(desk.run(&["signer", "add", "b", OTHER]).code, 0);
    assert_eq!(
        read(&desk),
        format!("{ours}\n[signers.b]\npublic_key = \"{OTHER}\"\nstatus = \"active\"\nuses = [\"payload\"]\n")
    );
    let retire = ["signer", "retire", "a", "--at", "2026-01-01T00:00:00Z"];
    assert_eq!(desk.run(&retire).code, 0);
    let now = "status = \"retired\" # for now\nvalid_until = 2026-01-01T00:00:00Z\n";
    assert!(read(&desk).contains(now), "{}", read(&desk));
    assert!(read(&desk).starts_with("# ours\n[signers.a] # the first\n"));
    assert_eq!(mode(&desk), 0o640);
    let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "no temporary file is left");
}

#[test]
fn a_link_still_points_to_the_registry() {
    let desk = desk();
    desk.file("real.toml", "# real\n");
    std::os::unix::fs::symlink("real.toml", desk.path("signers.toml")).unwrap();
    assert_eq!(desk.run(&["signer", "add", "a", KEY]).code, 0);
    assert!(desk.path("signers.toml").is_symlink());
    let real = std::fs::read_to_string(desk.path("real.toml")).unwrap();
    assert!(real.starts_with("# real\n\n[signers.a]\n"), "{real}");
}

#[test]
fn what_is_refused_changes_nothing() {
    let desk = desk();
    assert!(desk.run(&["signer", "list"]).says("signers.toml: cannot be read"));
    assert!(
        desk.run(&["signer", "retire", "a"])
            .says("cannot read signers.toml")
    );
    assert_eq!(desk.run(&["signer", "add", "a", KEY]).code, 0);
    let before = read(&desk);
    for (args, says) in [
        (&["add", "a", OTHER][..], "there is a signer \"a\" already"),
        (&["add", "a b", OTHER], "is no id"),
        (&["add", "b", "s3cret"], "KEY: is no public key"),
        (
            &["add", "b", OTHER, "--use", "sign"],
            "payload, manifest, checkpoint and rotation",
        ),
        (
            &["add", "b", KEY, "--use", "checkpoint"],
            "has the key of \"a\" and other uses",
        ),
        (
            &["add", "b", OTHER, "--from", "2", "--until", "2"],
            "--until is not after --from",
        ),
        (
            &["add", "b", OTHER, "--until", "99999999999999"],
            "between the years 1970 and 9999",
        ),
        (
            &["add", "b", OTHER, "--from", "soon"],
            "write 2027-01-01T00:00:00Z",
        ),
        (&["retire", "b"], "there is no signer \"b\""),
        (&["retire", "a", "--at", "4102444800"], "--at is in the future"),
        (
            &["add", "c", OTHER, "--registry", "/nowhere/signers.toml"],
            "cannot write /nowhere/signers.toml",
        ),
    ] {
        let run = desk.run(&[&["signer"], args].concat());
        assert_eq!(run.code, 3, "{args:?}: {run:?}");
        assert!(run.says(says) && !run.says("s3cret"), "{args:?}: {run:?}");
        assert_eq!(read(&desk), before, "{args:?}");
    }
    desk.file("signers.toml", "[signers.a]\nprivate_key = \"s3cret\"\n");
    for args in [&["list"][..], &["add", "b", KEY], &["retire", "a"]] {
        let run = desk.run(&[&["signer"], args].concat());
        assert_eq!(run.code, 3, "{run:?}");
        assert!(
            run.says("signers.toml: line 2: unknown field") && !run.says("s3cret"),
            "{run:?}"
        );
    }
    let without = Desk::new().run(&["signer", "list"]);
    assert_eq!(without.code, 3);
    assert!(without.says("--registry"), "{without:?}");
}

/// Cut to seconds, the end would take back what was signed in the same second.
#[test]
fn a_signer_that_is_retired_now_keeps_what_it_signed() {
    let desk = desk();
    assert_eq!(desk.run(&["signer", "add", "a", KEY]).code, 0);
    let before = std::time::SystemTime::now();
    let run = desk.run(&["signer", "retire", "a"]);
    assert!(run.says("What it has signed still counts"), "{run:?}");
    let registry = postern_signers::Registry::parse(&read(&desk)).unwrap();
    let signer = registry.get("a").unwrap();
    assert!(
        !signer.is_retired_at(before) && signer.valid_until.is_none(),
        "{}",
        read(&desk)
    );
}

#[test]
fn a_key_is_exported_as_openssl_reads_it() {
    let desk = desk();
    assert_eq!(desk.run(&["signer", "add", "a", KEY]).code, 0);
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
               -----END PUBLIC KEY-----\n";
    for (args, expected) in [
        (&["export", "a", "--pem"][..], pem),
        (&["export", KEY, "--pem"], pem),
        (&["export", "a"], &format!("{KEY}\n")),
    ] {
        let run = desk.run(&[&["signer"], args].concat());
        assert_eq!((run.code, run.out.as_str()), (0, expected), "{args:?}: {run:?}");
    }
    // A key alone needs no registry.
    let run = Desk::new().run(&["signer", "export", KEY, "--pem"]);
    assert_eq!(run.out, pem, "{run:?}");
    for (args, says) in [
        (&["export", "b"][..], "has no signer \"b\""),
        (&["export", "ed25519:s3cret"], "KEY: is no public key"),
    ] {
        let run = desk.run(&[&["signer"], args].concat());
        assert_eq!(run.code, 3, "{run:?}");
        assert!(run.says(says) && !run.says("s3cret"), "{run:?}");
    }
}
