//! `postern try` with the credentials that the other commands create.

use crate::support::WorkDir;
use crate::support::gate::{GATE, attempt, bearer, dir};

#[test]
fn tokens_are_verified_and_denials_explained() {
    let keys = ["--jwks", "demo=jwks.json"];
    for (name, algorithm, role, claims, keys, wanted) in [
        ("good", "RS256", "Admin", &[][..], &keys[..], "-"),
        ("good", "ES256", "Admin", &[], &keys, "-"),
        ("good", "EdDSA", "Admin", &[], &keys, "-"),
        ("no role", "ES256", "User", &[], &keys, "role_missing"),
        (
            "expired",
            "ES256",
            "Admin",
            &["--claim", "exp=1"],
            &keys,
            "token_expired",
        ),
        (
            "endless",
            "ES256",
            "Admin",
            &["--claim", "exp=null"],
            &keys,
            "token_expiry_missing",
        ),
        (
            "for others",
            "ES256",
            "Admin",
            &["--claim", "aud=billing"],
            &keys,
            "token_audience",
        ),
        ("no keys", "ES256", "Admin", &[], &[], "keys_unavailable"),
    ] {
        let dir = dir();
        let token = bearer(&dir, algorithm, role, claims);
        let mut args = vec!["/admin/users", "-H", &token, "-H", "X-Postern-Subject: eve"];
        args.extend(keys);
        let (text, document) = attempt(&dir, &args);
        let attempt = &document["attempts"][0];
        assert_eq!(attempt["rule"], "admin", "{name}");
        if wanted == "-" {
            assert_eq!(text.code, 0, "{name}: {text:?}");
            assert!(text.says("alice, by issuers/demo"), "{text:?}");
            let admitted = &attempt["admitted"];
            assert_eq!(admitted["request_headers_set"][0][1], "alice", "{document}");
            assert_eq!(
                admitted["request_headers_removed"][0], "x-postern-subject",
                "{document}"
            );
        } else {
            assert_eq!(
                (text.code, attempt["reason"].as_str()),
                (2, Some(wanted)),
                "{name}: {text:?}"
            );
            assert!(text.says("HTTP/1.1 ") && text.says("\ncontent-type: application/problem+json\n"));
            assert_eq!(
                text.says("pass --jwks demo=FILE"),
                wanted == "keys_unavailable",
                "{text:?}"
            );
        }
    }
}

#[test]
fn a_token_signed_by_an_unknown_key_is_denied() {
    let dir = dir();
    let token = bearer(&dir, "ES256", "Admin", &["--key", "one.pem"]);
    bearer(&dir, "ES256", "Admin", &["--key", "other.jwk"]);
    let (_, document) = attempt(&dir, &["/admin", "-H", &token, "--jwks", "demo=jwks.json"]);
    assert_eq!(document["attempts"][0]["reason"], "token_key_unknown");
    // The key file is reused: its key set verifies the earlier token.
    bearer(&dir, "ES256", "Admin", &["--key", "one.pem"]);
    let (run, _) = attempt(&dir, &["/admin", "-H", &token, "--jwks", "demo=jwks.json"]);
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn api_keys_are_verified_and_not_printed() {
    let dir = WorkDir::new();
    let document = dir
        .run(&["key", "new", "--id", "ci", "--role", "Operator", "--json"])
        .json();
    let (key, line) = (
        document["key"].as_str().unwrap(),
        document["yaml"].as_str().unwrap(),
    );
    dir.file(
        "gate.yaml",
        &format!(
            "api_keys:\n  agents:\n    keys:\n      {line}\n\
             rules: [{{name: all, authenticate: {{any: [api_keys/agents]}}, authorize: {{roles: [Operator]}}}}]\n"
        ),
    );
    let good = format!("X-API-Key: {key}");
    let bad = format!("{good}x");
    for (headers, wanted) in [
        (&["-H", &good][..], None),
        (&["-H", &bad], Some("key_unknown")),
        (&["-H", &good, "-H", &good], Some("credentials_ambiguous")),
        (&[], Some("credentials_missing")),
    ] {
        let (text, document) = attempt(&dir, headers);
        assert_eq!(document["attempts"][0]["reason"].as_str(), wanted, "{document}");
        assert_eq!(text.code, if wanted.is_some() { 2 } else { 0 });
        assert!(!text.says(key), "{text:?}");
        assert_eq!(
            text.says("x-api-key: <key>"),
            wanted == Some("credentials_missing"),
            "{text:?}"
        );
    }
}

#[test]
fn signatures_are_verified_and_replays_denied() {
    let dir = dir();
    let keyed = [
        "--scheme",
        "keyed",
        "--key-id",
        "p1",
        "--secret-env",
        "PARTNER_SECRET",
    ];
    let github = ["--scheme", "github", "--secret-env", "HOOK_SECRET"];
    let large = "x".repeat(2000);
    for (scheme, path, signed, sent, more, wanted) in [
        (&keyed[..], "/sign?x=1", "it's", "it's", &[][..], None),
        (&keyed, "/sign", "", "", &[], None),
        (&keyed, "/sign", "a", "b", &[], Some("signature_mismatch")),
        (&keyed, "/sign", &large, &large, &[], Some("body_too_large")),
        (
            &keyed,
            "/sign",
            "a",
            "a",
            &["--time", "2020-01-01T00:00:00Z"],
            Some("signature_skew"),
        ),
        (
            &keyed,
            "/sign",
            "a",
            "a",
            &["--repeat", "2"],
            Some("signature_replayed"),
        ),
        (&github, "/hook", "{}", "{}", &[], None),
        (&github, "/hook", "{}", "{ }", &[], Some("signature_mismatch")),
    ] {
        let url = format!("https://api.example{path}");
        let mut args = vec!["sign-request", "--json", &url, "-d", signed];
        args.extend(scheme);
        let run = dir.run(&args);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(!run.says("hunter2"), "{run:?}");
        let headers = run.json()["headers"].clone();
        let headers = headers.as_object().unwrap().iter();
        let headers: Vec<_> = headers
            .map(|(name, value)| format!("{name}: {}", value.as_str().unwrap()))
            .collect();
        let mut args = vec![url.as_str(), "-d", sent];
        args.extend(headers.iter().flat_map(|header| ["-H", header.as_str()]));
        args.extend(more);
        let (text, document) = attempt(&dir, &args);
        let last = document["attempts"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last["reason"].as_str(), wanted, "{path} {text:?}");
        assert_eq!(text.code, if wanted.is_some() { 2 } else { 0 }, "{text:?}");
    }
}

#[test]
fn an_unset_secret_denies_every_signature() {
    let dir = WorkDir::new();
    dir.file("gate.yaml", GATE);
    let header =
        "x-hub-signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
    let (text, document) = attempt(&dir, &["/hook", "-d", "Hello, World!", "-H", header]);
    assert_eq!(document["attempts"][0]["reason"], "signature_mismatch");
    assert!(text.says("HOOK_SECRET is not set here"), "{text:?}");
}
