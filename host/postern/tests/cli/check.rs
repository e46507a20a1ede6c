//! `postern check` on valid and invalid files.

use crate::support::WorkDir;

/// The configuration of the demo.
const GATE: &str = include_str!("../../../../envoy/gate.yaml");

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

#[test]
fn every_error_is_reported_at_once() {
    let shape = "
issuers:
  demo: {issuer: i, audience: [a], audiences: [a], algorithms: [RS265]}
limits:
  slow: {quota: 5, window: fast, key: [subject]}
rules: [{name: a, open: true}]
";
    let sense = "
issuers:
  demo: {issuer: i, audiences: [], algorithms: [RS256], jwks: {uri: 'http://i/', cluster: idp}}
limits:
  slow: {quota: 0, window: 1s, key: [subjekt]}
rules:
  - {name: a, authenticate: {any: [issuers/dmo]}, limits: [slo]}
  - {name: a}
  - {name: b, open: true, match: {path: {prefix: /x/../y}}}
";
    for (name, text, code, parts) in [
        (
            "the demo's",
            GATE,
            0,
            &["valid: 8 rules, 1 issuer, 1 API key"][..],
        ),
        (
            "json",
            "{\n\t\"rules\": [{\"name\": \"a\", \"open\": true}]\n}",
            0,
            &["valid: 1 rule, 0 issuers"],
        ),
        (
            "wrong shape, all at once",
            shape,
            3,
            &[
                "unknown field \"audience\": did you mean `audiences`?",
                "unknown value \"RS265\": did you mean `RS256`?",
                "limits.slow.window: \"fast\" is not a duration",
                "3 errors; ",
            ],
        ),
        (
            "no sense, all at once",
            sense,
            3,
            &[
                "issuers.demo.audiences: must name at least one audience",
                "limits.slow.quota: must be at least 1",
                "limits.slow.key[0]: unknown part \"subjekt\"; did you mean \"subject\"?",
                "rules[0].authenticate.any[0]: no issuer \"dmo\"; did you mean \"demo\"?",
                "rules[0].limits[0]: no limit \"slo\"; did you mean \"slow\"?",
                "rules[1]: needs \"authenticate: {any: [...]}\", or \"open: true\"",
                "rules[1].name: \"a\" is the name of rules[0] too",
                "rules[2].match.path: \"/x/../y\" would never match",
                "8 errors",
            ],
        ),
        (
            "no yaml",
            "rules: [\nx: 'y\n",
            3,
            &["gate.yaml:2:4: unclosed quote", "1 error"],
        ),
        (
            "twice",
            "rules: []\nrules: []\n",
            3,
            &["gate.yaml:2:1: ", "duplicate"],
        ),
        ("empty", "", 3, &["is empty"]),
    ] {
        let dir = WorkDir::new();
        dir.file("gate.yaml", text);
        for (run, file) in [
            (dir.run(&["check", "gate.yaml"]), "gate.yaml"),
            (dir.run_with(&["check", "-"], text.as_bytes()), "standard input"),
        ] {
            assert_eq!(run.code, code, "{name}: {run:?}");
            for part in parts {
                assert!(
                    run.says(&part.replace("gate.yaml", file)),
                    "{name}: no {part:?} in {run:?}"
                );
            }
            assert_eq!(
                run.out.is_empty(),
                code != 0,
                "errors go to stderr: {name}: {run:?}"
            );
        }
    }
}

#[test]
fn the_json_report_names_paths_and_lines() {
    let dir = WorkDir::new();
    dir.file("good.yaml", GATE);
    dir.file("bad.yaml", "rules: [{name: a}]");
    dir.file("worse.yaml", "a: 'b");

    let good = dir.run(&["check", "--json", "good.yaml"]).json();
    assert_eq!(good["valid"], true);
    assert_eq!(good["summary"]["rules"], 8);
    assert_eq!(good["warnings"][0]["path"], "signatures.github.secrets[0].env");
    let hints = good["hints"].to_string();
    assert!(
        hints.contains("for the body (allocate, webhook)")
            && hints.contains("allow_on_headers_stop_iteration: true")
    );

    for (file, path, line) in [
        ("bad.yaml", "rules[0]", None),
        ("worse.yaml", "", Some(1)),
        ("absent.yaml", "", None),
    ] {
        let run = dir.run(&["check", "--json", file]);
        let report = run.json();
        assert_eq!(run.code, 3, "{run:?}");
        assert_eq!(report["valid"], false);
        assert_eq!(report["errors"][0]["path"], path, "{run:?}");
        assert_eq!(
            report["errors"][0].get("line").and_then(|l| l.as_u64()),
            line,
            "{run:?}"
        );
    }
}

#[test]
fn secrets_are_looked_up_and_never_printed() {
    let hs256 = "
issuers: {own: {issuer: i, audiences: [a], algorithms: [HS256], secret: {env: OWN_SECRET}}}
rules: [{name: a, authenticate: {any: [issuers/own]}}]
";
    let misplaced = hs256.replace("OWN_SECRET", SECRET);
    let digest = format!(
        "api_keys: {{a: {{keys: [{{id: i, digest: {SECRET}}}]}}}}\nrules: [{{name: a, authenticate: {{any: [api_keys/a]}}}}]"
    );
    for (name, text, value, args, code, part) in [
        (
            "unset",
            hs256,
            None,
            &["check", "g"][..],
            0,
            "warning: g: issuers.own.secret.env: OWN_SECRET is not set",
        ),
        (
            "unset",
            hs256,
            None,
            &["check", "--env", "g"],
            3,
            "OWN_SECRET is not set",
        ),
        (
            "empty",
            hs256,
            Some(""),
            &["check", "--env", "g"],
            3,
            "OWN_SECRET is not set",
        ),
        ("set", hs256, Some(SECRET), &["check", "--env", "g"], 0, "valid"),
        ("short", hs256, Some("hunter2"), &["check", "g"], 3, "32 bytes"),
        (
            "a secret for a name",
            &misplaced,
            None,
            &["check", "g"],
            3,
            "is not the name of an environment variable",
        ),
        (
            "a secret for a name",
            &misplaced,
            None,
            &["check", "--env", "g"],
            3,
            "is not the name of an environment variable",
        ),
        (
            "a key for a digest",
            &digest,
            None,
            &["check", "g"],
            3,
            "postern key new",
        ),
    ] {
        let mut dir = WorkDir::new();
        if let Some(value) = value {
            dir = dir.with("OWN_SECRET", value);
        }
        dir.file("g", text);
        for json in [false, true] {
            let mut args = args.to_vec();
            args.extend(json.then_some("--json"));
            let run = dir.run(&args);
            assert_eq!(run.code, code, "{name}: {run:?}");
            assert!(!run.says("hunter2"), "{name}: {run:?}");
            assert!(json || run.says(part), "{name}: {run:?}");
        }
    }
}

#[test]
fn bad_usage_and_denials_have_different_exit_codes() {
    let dir = WorkDir::new();
    for (args, code) in [
        (&["--version"][..], 0),
        (&["--help"], 0),
        (&["check", "--help"], 0),
        (&[], 3),
        (&["chekc"], 3),
        (&["check"], 3),
        (&["check", "absent.yaml"], 3),
        (&["key"], 3),
        (&["key", "new", "--id", ""], 3),
    ] {
        let run = dir.run(args);
        assert_eq!(run.code, code, "{args:?}: {run:?}");
        assert_eq!(run.err.is_empty(), code == 0, "{args:?}: {run:?}");
        assert!(!run.says("\u{1b}["), "no colours off a terminal: {run:?}");
    }
}

/// Configurations as large as the filter accepts can be checked and rendered.
#[test]
fn large_configurations_are_checked_and_rendered() {
    let mut text = String::from("api_keys:\n  agents:\n    keys:\n");
    for number in 0..100_000_u32 {
        text.push_str(&format!(
            "      - {{id: key-{number}, digest: \"sha256:{:016x}{number:048}\", roles: [Agent], tenant: acme}}\n",
            // As evenly spread as a digest is.
            u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ));
    }
    text.push_str("rules:\n");
    for number in 0..10_000 {
        let path = match number % 3 {
            0 => format!("exact: /service-{number}/orders"),
            1 => format!("prefix: /service-{number}"),
            _ => format!("template: \"/service-{number}/{{id}}\""),
        };
        text.push_str(&format!(
            "  - {{name: rule-{number}, match: {{methods: [GET, POST], hosts: [api.example], path: {{{path}}}}}, \
             authenticate: {{any: [api_keys/agents]}}}}\n"
        ));
    }
    text.push_str(
        "  - {name: dead, match: {methods: [GET], hosts: [api.example], path: {prefix: /service-1/x}}, open: true}\n",
    );
    let dir = WorkDir::new();
    dir.file("gate.yaml", &text);
    let run = dir.run(&["check", "gate.yaml"]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(
        run.out.contains("valid: 10001 rules, 0 issuers, 100000 API keys"),
        "{}",
        run.out
    );
    assert_eq!(
        run.err,
        "warning: gate.yaml: rules[10000]: is never reached: rules[1] (\"rule-1\") takes every request that it matches; \
         move it to the front, or remove it\n"
    );
    let run = dir.run(&["render", "gate.yaml", "--as", "ecds", "--out", "gate.ecds.yaml"]);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""));
    let rendered = std::fs::read_to_string(dir.path("gate.ecds.yaml")).unwrap();
    assert!(rendered.contains("\"name\":\"rule-9999\"") && rendered.contains("key-99999"));
}
