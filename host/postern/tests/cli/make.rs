//! The output of `key new`, `token mint` and `sign-request`.

use std::collections::BTreeSet;

use crate::support::WorkDir;

#[test]
fn keys_are_random_and_their_gate_entry_is_valid() {
    let dir = WorkDir::new();
    let keys: BTreeSet<String> = (0..3)
        .map(|_| dir.run(&["key", "new", "--json"]).json()["key"].to_string())
        .collect();
    assert_eq!(keys.len(), 3);
    assert!(
        keys.iter().all(|key| key.len() == "\"pk_\"".len() + 43),
        "{keys:?}"
    );

    let run = dir.run(&["key", "new", "--id", "a: 'b' #", "--role", "x, y"]);
    let line = run.out.lines().find(|line| line.starts_with("- {")).unwrap();
    let gate = format!(
        "api_keys: {{a: {{keys: [\n  {}\n]}}}}\nrules: [{{name: a, authenticate: {{any: [api_keys/a]}}}}]",
        line.trim_start_matches("- ")
    );
    dir.file("gate.yaml", &gate);
    let check = dir.run(&["check", "gate.yaml"]);
    assert_eq!(check.code, 0, "{check:?}");
}

#[test]
fn a_development_key_is_readable_only_by_its_owner() {
    let dir = WorkDir::new();
    let mint = [
        "token",
        "mint",
        "--issuer",
        "i",
        "--audience",
        "a",
        "--audience",
        "b",
        "--subject",
        "s",
        "--json",
    ];
    let minted = |more: &[&str]| dir.run(&[&mint[..], more].concat());
    for (file, algorithm, begins) in [("k.jwk", "EdDSA", "{"), ("k.pem", "ES256", "-----BEGIN")] {
        let first = minted(&["--key", file, "--algorithm", algorithm]).json();
        let again = minted(&["--key", file]).json();
        assert_eq!(first["jwks"], again["jwks"]);
        assert_eq!(again["algorithm"], algorithm);
        assert_eq!(first["claims"]["aud"], serde_json::json!(["a", "b"]));
        assert!(
            first["jwks"]["keys"][0].get("d").is_none(),
            "only the public half: {first}"
        );
        let text = std::fs::read_to_string(dir.path(file)).unwrap();
        assert!(text.starts_with(begins));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(dir.path(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }
    let wrong = minted(&["--key", "k.jwk", "--algorithm", "RS256"]);
    assert_eq!(wrong.code, 3, "{wrong:?}");
    assert!(
        wrong.says("the key file k.jwk: holds a key for EdDSA"),
        "{wrong:?}"
    );
}

#[test]
fn a_token_that_cannot_be_verified_causes_a_warning() {
    let run = WorkDir::new().run(&[
        "token",
        "mint",
        "--issuer",
        "i",
        "--audience",
        "a",
        "--subject",
        "s",
        "--algorithm",
        "ES256",
    ]);
    assert_eq!((run.code, run.out.lines().count()), (0, 1), "{run:?}");
    assert!(run.err.contains("cannot be verified"), "{run:?}");
}

#[test]
fn the_curl_command_is_quoted_and_secrets_are_not_printed() {
    let dir = WorkDir::new().with("S", "hunter2");
    let sign = |args: &[&str]| dir.run(&[&["sign-request", "--secret-env", "S"][..], args].concat());
    let run = sign(&[
        "--scheme",
        "github",
        "http://h/a?b=c&d",
        "-X",
        "PUT",
        "-d",
        "it's `x`",
    ]);
    assert!(
        run.out
            .ends_with("--data-binary 'it'\\''s `x`' 'http://h/a?b=c&d'\n"),
        "{run:?}"
    );
    assert!(!run.says("hunter2"), "{run:?}");

    for (args, part) in [
        (&["--scheme", "keyed", "http://h/"][..], "--key-id"),
        (
            &["--scheme", "github", "--key-id", "k", "http://h/"],
            "for the keyed scheme",
        ),
        (&["--scheme", "github", "/hook"], "scheme and host"),
        (
            &["--scheme", "github", "http://h/", "--secret-env", "UNSET"],
            "cannot be used multiple times",
        ),
    ] {
        let run = sign(args);
        assert_eq!(run.code, 3, "{run:?}");
        assert!(run.err.contains(part), "{run:?}");
    }
    let misplaced = dir.run(&[
        "sign-request",
        "--scheme",
        "github",
        "--secret-env",
        "hunter-2",
        "http://h/",
    ]);
    assert!(
        misplaced.code == 3 && !misplaced.says("hunter-2"),
        "{misplaced:?}"
    );
    let unset = dir.run(&[
        "sign-request",
        "--scheme",
        "github",
        "--secret-env",
        "UNSET",
        "http://h/",
    ]);
    assert_eq!(unset.code, 3);
    assert!(unset.err.contains("UNSET, is not set"), "{unset:?}");
}
