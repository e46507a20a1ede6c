//! `postern try`: limits, routing and invalid usage.

use crate::support::gate::{attempt, dir};

#[test]
fn repeated_requests_exhaust_a_limit() {
    let dir = dir();
    let (text, document) = attempt(&dir, &["/few", "--repeat", "4", "--source", "192.0.2.7"]);
    let attempts = document["attempts"].as_array().unwrap();
    let left: Vec<_> = attempts
        .iter()
        .map(|a| a["limits"][0]["remaining"].as_u64().unwrap())
        .collect();
    assert_eq!((text.code, left), (2, vec![2, 1, 0, 0]), "{document}");
    assert_eq!(
        attempts[0]["admitted"]["response_headers_added"][0][0],
        "ratelimit"
    );
    assert_eq!(attempts[3]["response"]["status"], 429);
    for part in [
        "1  allowed  few: 2 left (3 in 60s)",
        "4  denied   few: used up",
        "retry-after: 20\n",
    ] {
        assert!(text.says(part), "no {part:?} in {text:?}");
    }
    assert_eq!(attempt(&dir, &["/few", "--repeat", "3"]).0.code, 0);
}

#[test]
fn open_rules_match_by_method_host_and_path() {
    let dir = dir();
    for (args, wanted) in [
        (&["/healthz"][..], None),
        (&["/healthz", "-X", "PUT"], Some("no_rule")),
        (&["/healthz", "-d", "x"], Some("no_rule")),
        (&["/nowhere?token=eyJhunter2"], Some("no_rule")),
        (&["/a/../healthz"], Some("path_ambiguous")),
        (&["https://API.example:8443/hosted"], None),
        (&["/hosted", "--host", "api.example"], None),
        (&["/hosted", "-H", "Host: api.example"], None),
        (&["/hosted"], Some("no_rule")),
    ] {
        let (text, document) = attempt(&dir, args);
        assert_eq!(
            document["attempts"][0]["reason"].as_str(),
            wanted,
            "{args:?}: {text:?}"
        );
        assert_eq!(
            text.code,
            if wanted.is_some() { 2 } else { 0 },
            "{args:?}: {text:?}"
        );
    }
}

#[test]
fn invalid_usage_is_an_error() {
    let dir = dir();
    dir.file("bad.yaml", "rules: [{name: a}]");
    dir.file("jwks.json", "{}");
    for (args, part) in [
        (&["try", "bad.yaml"][..], "rules[0]: needs"),
        (&["try", "absent.yaml"], "cannot read absent.yaml"),
        (&["try", "gate.yaml", "healthz"], "must be a path"),
        (
            &["try", "gate.yaml", "/", "-H", "authorization hunter2"],
            "-H number 1: write",
        ),
        (
            &["try", "gate.yaml", "/", "--host", "a", "-H", "host: b"],
            "given twice",
        ),
        (
            &["try", "gate.yaml", "/", "--jwks", "dmo=jwks.json"],
            "no issuer \"dmo\"",
        ),
        (
            &["try", "gate.yaml", "/", "--jwks", "demo=jwks.json"],
            "not a JSON Web Key Set",
        ),
        (
            &["try", "gate.yaml", "/", "--time", "noon"],
            "2027-01-01T00:00:00Z",
        ),
        (&["try", "gate.yaml", "/", "-d", "@absent"], "cannot read absent"),
        (&["try", "-", "/", "-d", "@-"], "not both"),
    ] {
        let run = dir.run(args);
        assert_eq!(run.code, 3, "{args:?}: {run:?}");
        assert!(run.err.contains(part), "{args:?}: {run:?}");
        assert!(!run.says("hunter2"), "{run:?}");
    }
}

#[test]
fn a_policy_is_named_but_not_consulted() {
    let dir = dir();
    let (text, document) = attempt(&dir, &["/guarded", "-d", "12345678"]);
    assert_eq!(text.code, 0, "{text:?}");
    for part in [
        "would consult the policy host: module sentinel, with up to 8 bytes of the body",
        "Allowed, if the policy allows.",
    ] {
        assert!(text.says(part), "no {part:?} in {text:?}");
    }
    assert_eq!(document["decision"], "allowed, if the policy allows");
    let (text, document) = attempt(&dir, &["/guarded", "-d", "123456789"]);
    assert_eq!(
        (text.code, &document["attempts"][0]["reason"]),
        (2, &"body_too_large".into())
    );
}
