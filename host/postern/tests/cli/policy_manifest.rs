//! `postern policy keygen`, `sign` and `verify`.

use crate::support::policy::{signer, with_modules};
use crate::support::{Run, WorkDir};

/// A folder with modules, their cases and the key `ann`; also the name and public key as `--signer` takes them.
fn dir() -> (WorkDir, String) {
    let dir = with_modules();
    dir.file("deny.cases.yaml", "cases: [{name: nobody, expect: {deny: {}}}]");
    let ann = signer(&dir, "ann");
    (dir, ann)
}

fn sign(dir: &WorkDir, args: &[&str]) -> Run {
    let common = [
        "policy",
        "sign",
        "manifest.json",
        "--key",
        "ann.pem",
        "--signer",
        "ann",
    ];
    dir.run(&[&common[..], args].concat())
}

fn verify(dir: &WorkDir, signer: &str) -> Run {
    dir.run(&["policy", "verify", "manifest.json", "--signer", signer])
}

#[test]
fn a_key_is_readable_only_by_its_owner_and_never_replaced() {
    let (dir, ann) = dir();
    let text = std::fs::read_to_string(dir.path("ann.pem")).unwrap();
    assert!(text.starts_with("-----BEGIN PRIVATE KEY-----"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(dir.path("ann.pem"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let run = dir.run(&["policy", "keygen", "ann.pem"]);
    assert!(run.code == 3 && run.says("never replaced"), "{run:?}");
    assert_eq!(std::fs::read_to_string(dir.path("ann.pem")).unwrap(), text);

    // The printed line is valid in settings.
    let run = dir.run(&["policy", "keygen", "b.pem", "--signer", "a: \"b\" #"]);
    let line = run.out.lines().find(|line| line.starts_with("signers:")).unwrap();
    sign(&dir, &["--add", "deny=deny.wasm"]);
    dir.file("host.yaml", &format!("policies:\n  {line}"));
    let run = dir.run(&["policy", "verify", "manifest.json", "--settings", "host.yaml"]);
    assert!(
        run.code == 2 && run.says("not signed by a trusted signer"),
        "{run:?}"
    );
    dir.file(
        "host.yaml",
        &format!(
            "policies: {{signers: {{ann: '{}'}}}}",
            ann.trim_start_matches("ann=")
        ),
    );
    let run = dir.run(&["policy", "verify", "manifest.json", "--settings", "host.yaml"]);
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn changed_files_are_neither_verified_nor_signed() {
    let (dir, ann) = dir();
    let run = sign(&dir, &["--add", "deny=deny.wasm", "--add", "allow=allow.wasm"]);
    assert!(run.code == 0 && run.says("`allow` has no cases"), "{run:?}");
    assert_eq!(verify(&dir, &ann).code, 0);

    let manifest = std::fs::read_to_string(dir.path("manifest.json")).unwrap();
    dir.file("manifest.json", &manifest.replace("\"log\"", "\"log\", \"http\""));
    let run = verify(&dir, &ann);
    assert!(
        run.code == 2 && run.says("the signature of `ann` is invalid"),
        "{run:?}"
    );
    dir.file("manifest.json", &manifest);

    for (file, text) in [
        ("deny.cases.yaml", "cases: [{name: all, expect: {allow: {}}}]"),
        ("deny.wasm", "evil"),
    ] {
        let before = std::fs::read(dir.path(file)).unwrap();
        dir.file(file, text);
        let run = verify(&dir, &ann);
        assert!(
            run.code == 2 && run.says(&format!("no  deny       {file} is sha256:")),
            "{run:?}"
        );
        assert!(run.says("ok  allow"), "{run:?}");
        let run = sign(&dir, &[]);
        assert!(run.code == 3 && run.says("--refresh"), "{run:?}");
        std::fs::write(dir.path(file), before).unwrap();
    }
    assert_eq!(verify(&dir, &ann).code, 0);

    dir.file("deny.cases.yaml", "cases: [{name: all, expect: {allow: {}}}]");
    assert_eq!(sign(&dir, &["--refresh"]).code, 0);
    let run = verify(&dir, &ann);
    assert!(
        run.code == 2 && run.says("the case `all` fails: decision: expected allow"),
        "{run:?}"
    );
    let run = dir.run(&[
        "policy",
        "verify",
        "manifest.json",
        "--signer",
        &ann,
        "--no-compile",
        "--json",
    ]);
    assert_eq!((run.code, &run.json()["verified"]), (0, &true.into()), "{run:?}");
}

#[test]
fn a_change_removes_the_signatures_of_others() {
    let (dir, ann) = dir();
    let bob = signer(&dir, "bob");
    let bob_signs = [
        "policy",
        "sign",
        "manifest.json",
        "--key",
        "bob.pem",
        "--signer",
        "bob",
    ];
    sign(&dir, &["--add", "deny=deny.wasm"]);
    assert_eq!(dir.run(&bob_signs).code, 0);
    assert_eq!((verify(&dir, &ann).code, verify(&dir, &bob).code), (0, 0));
    let run = sign(&dir, &["--add", "allow=allow.wasm"]);
    assert!(
        run.says("must sign again, since the manifest changed: bob"),
        "{run:?}"
    );
    assert_eq!((verify(&dir, &ann).code, verify(&dir, &bob).code), (0, 2));
    let as_ann = [
        "policy",
        "sign",
        "manifest.json",
        "--key",
        "bob.pem",
        "--signer",
        "ann",
    ];
    assert_eq!(dir.run(&as_ann).code, 0);
    assert_eq!(verify(&dir, &ann).code, 2, "another key under her name");
    assert_eq!(sign(&dir, &["--remove", "allow"]).code, 0);
    assert_eq!(verify(&dir, &ann).code, 0);
}

#[test]
fn an_invalid_change_is_not_signed() {
    let (dir, _) = dir();
    dir.file("text.pem", "hunter2");
    dir.file("bad.yaml", "cases: []");
    std::fs::create_dir(dir.path("below")).unwrap();
    for (args, says) in [
        (&[][..], "--add NAME=MODULE.wasm"),
        (&["--add", "deny"], "write NAME=MODULE.wasm"),
        (&["--add", "a=absent.wasm"], "cannot read absent.wasm"),
        (&["--add", "a=ann.pem"], "not a WebAssembly component"),
        (&["--add", "a=allow.wasm", "--grants", "config"], "`a` needs log"),
        (
            &["--add", "a=allow.wasm", "--grants", "logs"],
            "did you mean \"log\"",
        ),
        (
            &["--add", "a=deny.wasm", "--add", "b=deny.wasm", "--grants", "log"],
            "NAME=",
        ),
        (
            &["--add", "a=deny.wasm", "--cases", "b=deny.cases.yaml"],
            "no module `b` is added",
        ),
        (
            &["--add", "a=deny.wasm", "--cases", "bad.yaml"],
            "it has no cases",
        ),
        (&["--add", "a=deny.wasm", "--add", "a=allow.wasm"], "twice"),
        (&["--remove", "a"], "lists no module `a`"),
        (&["--key", "text.pem"], "cannot be used multiple times"),
    ] {
        let run = sign(&dir, args);
        assert!(run.code == 3 && run.says(says), "{args:?}: {run:?}");
        assert!(!dir.path("manifest.json").exists(), "{args:?}");
    }
    let elsewhere = [
        "policy",
        "sign",
        "below/m.json",
        "--key",
        "ann.pem",
        "--signer",
        "a",
        "--add",
        "d=deny.wasm",
    ];
    let run = dir.run(&elsewhere);
    assert!(
        run.code == 3 && run.says("must be inside the manifest's folder"),
        "{run:?}"
    );
    let run = dir.run(&["policy", "sign", "m.json", "--key", "text.pem", "--signer", "a"]);
    assert!(
        run.code == 3 && run.says("is not a private Ed25519 key") && !run.says("hunter2"),
        "{run:?}"
    );
}

#[test]
fn a_manifest_that_cannot_be_verified_is_an_error() {
    let (dir, ann) = dir();
    dir.file("text.json", "hello");
    dir.file("unsigned.json", "{\"version\": 1, \"modules\": {}}");
    for (args, code, says) in [
        (
            &["absent.json", "--signer", &ann][..],
            3,
            "cannot read absent.json",
        ),
        (&["text.json", "--signer", &ann], 3, "not a manifest"),
        (&["unsigned.json", "--signer", &ann], 2, "it is not signed"),
        (&["unsigned.json"], 3, "no trusted signer given"),
        (
            &["unsigned.json", "--signer", "ann=ed25519:AAAA"],
            3,
            "not a public key",
        ),
        (
            &["unsigned.json", "--settings", "absent.yaml"],
            3,
            "cannot read absent.yaml",
        ),
    ] {
        let run = dir.run(&[&["policy", "verify"], args].concat());
        assert!(run.code == code && run.says(says), "{args:?}: {run:?}");
    }
}

#[test]
fn settings_with_an_entry_that_cannot_be_served_are_not_valid() {
    let dir = with_modules();
    let settings =
        |entries: &str| format!("listen: ['unix:host.sock']\npolicies: {{entries: {{{entries}}}}}");
    dir.file("good.yaml", &settings("a: {file: deny.wasm}"));
    dir.file(
        "bad.yaml",
        &settings("a: {file: deny.wasm}, b: {file: none.wasm}"),
    );
    let good = dir.run(&["serve", "--config", "good.yaml", "--check"]);
    assert!(
        good.code == 0 && good.out.contains("good.yaml: valid"),
        "{good:?}"
    );
    let bad = dir.run(&["serve", "--config", "bad.yaml", "--check"]);
    assert!(
        bad.code == 2 && bad.out.contains("1 entry cannot be served"),
        "{bad:?}"
    );
    assert!(
        !bad.out.contains("valid") && bad.err.contains("none.wasm"),
        "{bad:?}"
    );
}
