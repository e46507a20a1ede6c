//! `postern signer`: creating, changing and reading a registry, without loss of what its owner wrote.

use std::os::unix::fs::PermissionsExt as _;

use crate::support::WorkDir;

const KEY: &str = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const OTHER: &str = "ed25519:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=";

fn dir() -> WorkDir {
    WorkDir::new().with("POSTERN_SIGNERS", "signers.toml")
}

fn read(dir: &WorkDir) -> String {
    std::fs::read_to_string(dir.path("signers.toml")).unwrap()
}

fn mode(dir: &WorkDir) -> u32 {
    std::fs::metadata(dir.path("signers.toml"))
        .unwrap()
        .permissions()
        .mode()
        & 0o777
}

#[test]
fn signers_are_added_retired_and_listed() {
    let dir = dir();
    let run = dir.run(&["signer", "add", "old", KEY]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.says("Added old in signers.toml") && run.says("trusted for payload") && run.says("SIGHUP"),
        "{run:?}"
    );
    assert_eq!(mode(&dir), 0o644);
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
    let run = dir.run(&add);
    assert!(
        run.says("trusted for checkpoint, rotation from 2026-01-01T00:00:00Z until 2100-01-01T00:00:00Z"),
        "{run:?}"
    );
    let run = dir.run(&["signer", "retire", "old", "--at", "2026-06-01T12:00:00Z"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        run.says("made before 2026-06-01T12:00:00Z stay trusted"),
        "{run:?}"
    );

    let listed = dir.run(&["signer", "list", "--format", "json"]).json();
    assert_eq!(
        listed,
        serde_json::json!({"signers": [
            {"id": "old", "state": "retired", "status": "retired", "public_key": KEY, "uses": ["payload"],
             "valid_from": null, "valid_until": "2026-06-01T12:00:00Z", "retired_at": null},
            {"id": "projects/p:2", "state": "active", "status": "active", "public_key": OTHER, "uses": ["checkpoint", "rotation"],
             "valid_from": "2026-01-01T00:00:00Z", "valid_until": "2100-01-01T00:00:00Z", "retired_at": null},
        ]})
    );
    let text = dir.run(&["signer", "list"]).out;
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
fn comments_and_mode_are_kept() {
    let dir = dir();
    let ours =
        format!("# ours\n[signers.a] # the first\npublic_key = \"{KEY}\"\nstatus = \"active\" # for now\n");
    dir.file("signers.toml", &ours);
    let path = dir.path("signers.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(dir.run(&["signer", "add", "b", OTHER]).code, 0);
    assert_eq!(
        read(&dir),
        format!("{ours}\n[signers.b]\npublic_key = \"{OTHER}\"\nstatus = \"active\"\nuses = [\"payload\"]\n")
    );
    let retire = ["signer", "retire", "a", "--at", "2026-01-01T00:00:00Z"];
    assert_eq!(dir.run(&retire).code, 0);
    let now = "status = \"retired\" # for now\nvalid_until = 2026-01-01T00:00:00Z\n";
    assert!(read(&dir).contains(now), "{}", read(&dir));
    assert!(read(&dir).starts_with("# ours\n[signers.a] # the first\n"));
    assert_eq!(mode(&dir), 0o640);
    let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "no temporary file is left");
}

#[test]
fn a_symbolic_link_is_followed_not_replaced() {
    let dir = dir();
    dir.file("real.toml", "# real\n");
    std::os::unix::fs::symlink("real.toml", dir.path("signers.toml")).unwrap();
    assert_eq!(dir.run(&["signer", "add", "a", KEY]).code, 0);
    assert!(dir.path("signers.toml").is_symlink());
    let real = std::fs::read_to_string(dir.path("real.toml")).unwrap();
    assert!(real.starts_with("# real\n\n[signers.a]\n"), "{real}");
}

#[test]
fn a_rejected_change_leaves_the_file_as_it_was() {
    let dir = dir();
    assert!(dir.run(&["signer", "list"]).says("signers.toml: cannot be read"));
    assert!(
        dir.run(&["signer", "retire", "a"])
            .says("cannot read signers.toml")
    );
    assert_eq!(dir.run(&["signer", "add", "a", KEY]).code, 0);
    let before = read(&dir);
    for (args, says) in [
        (&["add", "a", OTHER][..], "signer \"a\" already exists"),
        (&["add", "a b", OTHER], "invalid signer id"),
        (&["add", "b", "s3cret"], "KEY: is not a public key"),
        (
            &["add", "b", OTHER, "--use", "sign"],
            "payload, manifest, checkpoint and rotation",
        ),
        (
            &["add", "b", KEY, "--use", "checkpoint"],
            "has the key of \"a\" but other uses",
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
        let run = dir.run(&[&["signer"], args].concat());
        assert_eq!(run.code, 3, "{args:?}: {run:?}");
        assert!(run.says(says) && !run.says("s3cret"), "{args:?}: {run:?}");
        assert_eq!(read(&dir), before, "{args:?}");
    }
    dir.file("signers.toml", "[signers.a]\nprivate_key = \"s3cret\"\n");
    for args in [&["list"][..], &["add", "b", KEY], &["retire", "a"]] {
        let run = dir.run(&[&["signer"], args].concat());
        assert_eq!(run.code, 3, "{run:?}");
        assert!(
            run.says("signers.toml: line 2: unknown field") && !run.says("s3cret"),
            "{run:?}"
        );
    }
    let without = WorkDir::new().run(&["signer", "list"]);
    assert_eq!(without.code, 3);
    assert!(without.says("--registry"), "{without:?}");
}

/// An end truncated to seconds would revoke signatures made in the same second.
#[test]
fn a_signer_retired_now_keeps_its_existing_signatures() {
    let dir = dir();
    assert_eq!(dir.run(&["signer", "add", "a", KEY]).code, 0);
    let before = std::time::SystemTime::now();
    let run = dir.run(&["signer", "retire", "a"]);
    assert!(run.says("Its existing signatures stay trusted"), "{run:?}");
    let registry = postern_signers::Registry::parse(&read(&dir)).unwrap();
    let signer = registry.get("a").unwrap();
    assert!(
        !signer.is_retired_at(before) && signer.valid_until.is_none(),
        "{}",
        read(&dir)
    );
}

#[test]
fn a_key_is_exported_in_the_form_of_openssl() {
    let dir = dir();
    assert_eq!(dir.run(&["signer", "add", "a", KEY]).code, 0);
    let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
               -----END PUBLIC KEY-----\n";
    for (args, expected) in [
        (&["export", "a", "--pem"][..], pem),
        (&["export", KEY, "--pem"], pem),
        (&["export", "a"], &format!("{KEY}\n")),
    ] {
        let run = dir.run(&[&["signer"], args].concat());
        assert_eq!((run.code, run.out.as_str()), (0, expected), "{args:?}: {run:?}");
    }
    // Exporting a given key needs no registry.
    let run = WorkDir::new().run(&["signer", "export", KEY, "--pem"]);
    assert_eq!(run.out, pem, "{run:?}");
    for (args, says) in [
        (&["export", "b"][..], "has no signer \"b\""),
        (&["export", "ed25519:s3cret"], "KEY: is not a public key"),
    ] {
        let run = dir.run(&[&["signer"], args].concat());
        assert_eq!(run.code, 3, "{run:?}");
        assert!(run.says(says) && !run.says("s3cret"), "{run:?}");
    }
}
