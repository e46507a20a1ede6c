//! `postern policy inspect`, `run`, `test` and `bench` on valid and invalid modules.

use std::collections::BTreeSet;

use crate::support::policy::with_modules;
use postern_testbed::modules;

const CASES: &str = "cases: [{name: all may pass, expect: {allow: {headers: {}}}}]";

#[test]
fn the_error_of_an_invalid_module_says_what_the_file_is() {
    let dir = with_modules();
    dir.file("cases.yaml", CASES);
    dir.file("text.wasm", "hello");
    dir.file("empty.wasm", "");
    std::fs::write(dir.path("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    std::fs::write(dir.path("elf.wasm"), b"\x7fELF\x02\x01\x01\0").unwrap();
    let whole = std::fs::read(dir.path("deny.wasm")).unwrap();
    std::fs::write(dir.path("half.wasm"), &whole[..whole.len() / 2]).unwrap();
    std::fs::create_dir(dir.path("folder")).unwrap();
    for (file, says) in [
        ("absent.wasm", "cannot read absent.wasm"),
        ("text.wasm", "not a WebAssembly component"),
        ("empty.wasm", "not a WebAssembly component"),
        ("core.wasm", "build it with `postern policy build`"),
        ("elf.wasm", "compiled code"),
        ("half.wasm", "not a WebAssembly component"),
    ] {
        for command in ["inspect", "run", "test", "bench"] {
            let run = dir.run(&["policy", command, file]);
            assert_eq!(run.code, 3, "{command} {file}: {run:?}");
            assert!(run.says(says), "{command} {file}: {run:?}");
            assert_eq!(run.out, "");
        }
    }
    let run = dir.run(&["policy", "run", "folder"]);
    assert!(run.says("postern policy build folder"), "{run:?}");
}

#[test]
fn a_module_is_inspected_without_being_run() {
    let dir = with_modules();
    let run = dir.run(&["policy", "inspect", "trap.wasm", "--json"]);
    let document = run.json();
    assert_eq!((run.code, &document["kind"]), (0, &"authorizer".into()));
    assert_eq!(document["needs"], serde_json::json!([]));
    assert_eq!(
        (&document["memories"], &document["initial_memory_bytes"]),
        (&1.into(), &131_072.into())
    );
    let run = dir.run(&["policy", "inspect", "http.wasm"]);
    assert!(
        run.says("needs     http") && run.says("exports   authorize"),
        "{run:?}"
    );
}

#[test]
fn a_decision_is_printed_and_sets_the_exit_code() {
    let dir = with_modules();
    for (module, code, decision, says) in [
        ("allow.wasm", 0, "allow", "log warn"),
        ("deny.wasm", 2, "deny", "deny 403 no_one"),
        ("trap.wasm", 3, "error", "the policy trapped"),
    ] {
        let run = dir.run(&[
            "policy",
            "run",
            module,
            "--path",
            "/x?y=1",
            "-H",
            "x-a: 1",
            "--subject",
            "ann",
        ]);
        assert_eq!(run.code, code, "{run:?}");
        assert!(run.says(says), "{run:?}");
        let run = dir.run(&["policy", "run", module, "--json"]);
        assert_eq!(
            (run.code, &run.json()["decision"]),
            (code, &decision.into()),
            "{run:?}"
        );
    }
    let run = dir.run(&["policy", "run", "deny.wasm", "--json"]).json();
    assert_eq!(run["memory_bytes"], 131_072, "{run}");
    assert!(run["took_us"].as_f64().is_some_and(|took| took > 0.0), "{run}");
    let request = br#"{"method": "PUT", "path": "/a", "identity": {"subject": "ann"}}"#;
    assert_eq!(
        dir.run_with(&["policy", "run", "allow.wasm", "--request", "-"], request)
            .code,
        0
    );
}

#[test]
fn invalid_requests_and_grants_are_rejected() {
    let dir = with_modules();
    dir.file("bad.json", "{\"mehtod\": \"GET\"}");
    for (args, says) in [
        (&["http.wasm"][..], "--grant http=api.example.com"),
        (&["allow.wasm", "--grant", "confg"], "did you mean \"config\""),
        (
            &["allow.wasm", "--grant", "files"],
            "the capabilities are config, log",
        ),
        (&["allow.wasm", "--grant", "http"], "http=api.example.com"),
        (&["allow.wasm", "--request", "bad.json"], "mehtod"),
        (
            &["allow.wasm", "--request", "absent.json"],
            "cannot read absent.json",
        ),
        (&["allow.wasm", "--path", "x"], "must be a path"),
        (&["allow.wasm", "--claims", "[1]"], "a JSON object"),
        (&["allow.wasm", "--config", "{"], "--config:1"),
        (&["allow.wasm", "-H", "authorization hunter2"], "-H number 1"),
    ] {
        let run = dir.run(&[&["policy", "run"], args].concat());
        assert_eq!(run.code, 3, "{args:?}: {run:?}");
        assert!(run.says(says) && !run.says("hunter2 "), "{args:?}: {run:?}");
    }
    assert_eq!(
        dir.run(&["policy", "run", "http.wasm", "--grant", "http=127.0.0.1:1"])
            .code,
        0
    );
}

#[test]
fn a_failed_case_prints_the_differences() {
    let dir = with_modules();
    dir.file(
        "deny.cases.yaml",
        "cases:\n- {name: as it is, expect: {deny: {code: no_one}}}\n\
         - {name: another code, expect: {deny: {code: nobody, status: 404}}}\n\
         - {name: another decision, expect: {allow: {}}}",
    );
    let run = dir.run(&["policy", "test", "deny.wasm"]);
    assert_eq!(run.code, 2, "{run:?}");
    for part in [
        "✓ as it is\n",
        "✗ another code\n",
        "    status\n      expected  404\n      found     403\n",
        "    code\n      expected  nobody\n      found     no_one\n",
        "      expected  allow\n      found     deny (no_one, 403: no)\n",
        "3 cases: 1 passed, 2 failed",
    ] {
        assert!(run.says(part), "no {part:?} in {run:?}");
    }
    assert_eq!(
        dir.run(&["policy", "test", "deny.wasm", "--filter", "as it"])
            .code,
        0
    );

    dir.file("cases.yaml", "cases: [{name: logs, expect: {deny: {}}}]");
    let run = dir.run(&["policy", "test", "allow.wasm"]);
    assert!(run.code == 2 && run.says("    log warn   {}\n"), "{run:?}");
}

#[test]
fn a_run_without_cases_is_an_error() {
    let dir = with_modules();
    dir.file("misspelt.yaml", "cases: [{name: a, expect: {alow: {}}}]");
    dir.file("none.yaml", "cases: []");
    dir.file("one.yaml", CASES);
    for (args, says) in [
        (
            &["allow.wasm"][..],
            "neither allow.cases.yaml nor a cases.yaml beside it",
        ),
        (
            &["allow.wasm", "--cases", "absent.yaml"],
            "cannot read absent.yaml",
        ),
        (&["allow.wasm", "--cases", "misspelt.yaml"], "alow"),
        (&["allow.wasm", "--cases", "none.yaml"], "it has no cases"),
        (
            &["allow.wasm", "--cases", "one.yaml", "--filter", "some"],
            "no case has \"some\"",
        ),
    ] {
        let run = dir.run(&[&["policy", "test"], args].concat());
        assert_eq!(run.code, 3, "{args:?}: {run:?}");
        assert!(run.says(says), "{args:?}: {run:?}");
    }
}

#[test]
fn a_benchmark_reports_all_its_metrics_as_json() {
    let dir = with_modules();
    dir.file("cases.yaml", CASES);
    let bench = ["policy", "bench", "allow.wasm", "--seconds", "1"];
    let run = dir.run(&[&bench[..], &["--threads", "2", "--json"]].concat());
    let document = run.json();
    let names: BTreeSet<_> = document.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "p50_us",
        "p99_us",
        "p999_us",
        "memory_bytes",
        "decisions",
        "decisions_per_second",
    ];
    assert_eq!((run.code, names), (0, expected.into()), "{run:?}");
    assert!(
        document["p50_us"].as_f64() <= document["p999_us"].as_f64(),
        "{document}"
    );
    assert!(document["memory_bytes"].as_u64() >= Some(131_072), "{document}");
    let run = dir.run(&[&bench[..], &["--cases", "cases.yaml", "--case", "all may pass"]].concat());
    assert!(
        run.code == 0 && run.says("p99.9") && run.err.is_empty(),
        "{run:?}"
    );
    for (args, says) in [
        (&["trap.wasm"][..], "nothing to measure: the policy trapped"),
        (
            &["allow.wasm", "--cases", "cases.yaml", "--case", "other"],
            "no case \"other\"",
        ),
        (
            &["allow.wasm", "--cases", "cases.yaml", "--path", "/"],
            "not from both",
        ),
        (&["allow.wasm", "--seconds", "0"], "0 is not in"),
    ] {
        let run = dir.run(&[&["policy", "bench"], args].concat());
        assert!(run.code == 3 && run.says(says), "{args:?}: {run:?}");
    }
}

#[test]
fn a_shipped_module_passes_its_cases() {
    let dir = with_modules();
    let rbac = modules::shipped("rbac").unwrap();
    let run = dir.run(&["policy", "test", rbac.to_str().unwrap()]);
    assert!(run.code == 0 && run.says(", 0 failed"), "{run:?}");
}
