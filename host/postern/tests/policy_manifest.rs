//! `postern policy keygen`, `sign` and `verify`: what is vouched for, and what is not.

mod support;

use support::policy::{signer, with_modules};
use support::{Desk, Run};

/// A desk with modules, their cases, and ann's key; her name and public key.
fn desk() -> (Desk, String) {
    let desk = with_modules();
    desk.file("deny.cases.yaml", "cases: [{name: nobody, expect: {deny: {}}}]");
    let ann = signer(&desk, "ann");
    (desk, ann)
}

fn sign(desk: &Desk, args: &[&str]) -> Run {
    let common = [
        "policy",
        "sign",
        "manifest.json",
        "--key",
        "ann.pem",
        "--signer",
        "ann",
    ];
    desk.run(&[&common[..], args].concat())
}

fn verify(desk: &Desk, signer: &str) -> Run {
    desk.run(&["policy", "verify", "manifest.json", "--signer", signer])
}

#[test]
fn a_key_is_its_owners_alone_and_never_replaced() {
    let (desk, ann) = desk();
    let text = std::fs::read_to_string(desk.path("ann.pem")).unwrap();
    assert!(text.starts_with("-----BEGIN PRIVATE KEY-----"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(desk.path("ann.pem"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let run = desk.run(&["policy", "keygen", "ann.pem"]);
    assert!(run.code == 3 && run.says("never replaced"), "{run:?}");
    assert_eq!(std::fs::read_to_string(desk.path("ann.pem")).unwrap(), text);

    // The line that is printed is one that settings take.
    let run = desk.run(&["policy", "keygen", "b.pem", "--signer", "a: \"b\" #"]);
    let line = run.out.lines().find(|line| line.starts_with("signers:")).unwrap();
    sign(&desk, &["--add", "deny=deny.wasm"]);
    desk.file("host.yaml", &format!("policies:\n  {line}"));
    let run = desk.run(&["policy", "verify", "manifest.json", "--settings", "host.yaml"]);
    assert!(
        run.code == 2 && run.says("signed by nobody whom the settings name"),
        "{run:?}"
    );
    desk.file(
        "host.yaml",
        &format!(
            "policies: {{signers: {{ann: '{}'}}}}",
            ann.trim_start_matches("ann=")
        ),
    );
    let run = desk.run(&["policy", "verify", "manifest.json", "--settings", "host.yaml"]);
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn what_was_changed_is_neither_verified_nor_signed_unawares() {
    let (desk, ann) = desk();
    let run = sign(&desk, &["--add", "deny=deny.wasm", "--add", "allow=allow.wasm"]);
    assert!(run.code == 0 && run.says("`allow` has no cases"), "{run:?}");
    assert_eq!(verify(&desk, &ann).code, 0);

    let manifest = std::fs::read_to_string(desk.path("manifest.json")).unwrap();
    desk.file("manifest.json", &manifest.replace("\"log\"", "\"log\", \"http\""));
    let run = verify(&desk, &ann);
    assert!(
        run.code == 2 && run.says("the signature of `ann` is wrong"),
        "{run:?}"
    );
    desk.file("manifest.json", &manifest);

    for (file, text) in [
        ("deny.cases.yaml", "cases: [{name: all, expect: {allow: {}}}]"),
        ("deny.wasm", "evil"),
    ] {
        let before = std::fs::read(desk.path(file)).unwrap();
        desk.file(file, text);
        let run = verify(&desk, &ann);
        assert!(
            run.code == 2 && run.says(&format!("no  deny       {file} is sha256:")),
            "{run:?}"
        );
        assert!(run.says("ok  allow"), "{run:?}");
        let run = sign(&desk, &[]);
        assert!(run.code == 3 && run.says("--refresh"), "{run:?}");
        std::fs::write(desk.path(file), before).unwrap();
    }
    assert_eq!(verify(&desk, &ann).code, 0);

    desk.file("deny.cases.yaml", "cases: [{name: all, expect: {allow: {}}}]");
    assert_eq!(sign(&desk, &["--refresh"]).code, 0);
    let run = verify(&desk, &ann);
    assert!(
        run.code == 2 && run.says("the case `all` fails: decision: expected allow"),
        "{run:?}"
    );
    let run = desk.run(&[
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
fn a_change_ends_what_others_signed() {
    let (desk, ann) = desk();
    let bob = signer(&desk, "bob");
    let bob_signs = [
        "policy",
        "sign",
        "manifest.json",
        "--key",
        "bob.pem",
        "--signer",
        "bob",
    ];
    sign(&desk, &["--add", "deny=deny.wasm"]);
    assert_eq!(desk.run(&bob_signs).code, 0);
    assert_eq!((verify(&desk, &ann).code, verify(&desk, &bob).code), (0, 0));
    let run = sign(&desk, &["--add", "allow=allow.wasm"]);
    assert!(
        run.says("must sign again, for the manifest changed: bob"),
        "{run:?}"
    );
    assert_eq!((verify(&desk, &ann).code, verify(&desk, &bob).code), (0, 2));
    let as_ann = [
        "policy",
        "sign",
        "manifest.json",
        "--key",
        "bob.pem",
        "--signer",
        "ann",
    ];
    assert_eq!(desk.run(&as_ann).code, 0);
    assert_eq!(verify(&desk, &ann).code, 2, "another key under her name");
    assert_eq!(sign(&desk, &["--remove", "allow"]).code, 0);
    assert_eq!(verify(&desk, &ann).code, 0);
}

#[test]
fn what_cannot_be_signed() {
    let (desk, _) = desk();
    desk.file("text.pem", "hunter2");
    desk.file("bad.yaml", "cases: []");
    std::fs::create_dir(desk.path("below")).unwrap();
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
        (&["--add", "a=deny.wasm", "--cases", "bad.yaml"], "no case in it"),
        (&["--add", "a=deny.wasm", "--add", "a=allow.wasm"], "twice"),
        (&["--remove", "a"], "lists no module `a`"),
        (&["--key", "text.pem"], "cannot be used multiple times"),
    ] {
        let run = sign(&desk, args);
        assert!(run.code == 3 && run.says(says), "{args:?}: {run:?}");
        assert!(!desk.path("manifest.json").exists(), "{args:?}");
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
    let run = desk.run(&elsewhere);
    assert!(
        run.code == 3 && run.says("must lie in the manifest's folder"),
        "{run:?}"
    );
    let run = desk.run(&["policy", "sign", "m.json", "--key", "text.pem", "--signer", "a"]);
    assert!(
        run.code == 3 && run.says("no private Ed25519 key") && !run.says("hunter2"),
        "{run:?}"
    );
}

#[test]
fn what_cannot_be_verified() {
    let (desk, ann) = desk();
    desk.file("text.json", "hello");
    desk.file("unsigned.json", "{\"version\": 1, \"modules\": {}}");
    for (args, code, says) in [
        (
            &["absent.json", "--signer", &ann][..],
            3,
            "cannot read absent.json",
        ),
        (&["text.json", "--signer", &ann], 3, "not a manifest"),
        (&["unsigned.json", "--signer", &ann], 2, "it is not signed"),
        (&["unsigned.json"], 3, "say whose signature counts"),
        (
            &["unsigned.json", "--signer", "ann=ed25519:AAAA"],
            3,
            "no public key",
        ),
        (
            &["unsigned.json", "--settings", "absent.yaml"],
            3,
            "cannot read absent.yaml",
        ),
    ] {
        let run = desk.run(&[&["policy", "verify"], args].concat());
        assert!(run.code == code && run.says(says), "{args:?}: {run:?}");
    }
}

#[test]
fn settings_with_an_entry_that_cannot_be_served_are_not_called_valid() {
    let desk = with_modules();
    let settings =
        |entries: &str| format!("listen: ['unix:host.sock']\npolicies: {{entries: {{{entries}}}}}");
    desk.file("good.yaml", &settings("a: {file: deny.wasm}"));
    desk.file(
        "bad.yaml",
        &settings("a: {file: deny.wasm}, b: {file: none.wasm}"),
    );
    let good = desk.run(&["serve", "--config", "good.yaml", "--check"]);
    assert!(
        good.code == 0 && good.out.contains("good.yaml: valid"),
        "{good:?}"
    );
    let bad = desk.run(&["serve", "--config", "bad.yaml", "--check"]);
    assert!(
        bad.code == 2 && bad.out.contains("1 entry cannot be served"),
        "{bad:?}"
    );
    assert!(
        !bad.out.contains("valid") && bad.err.contains("none.wasm"),
        "{bad:?}"
    );
}
