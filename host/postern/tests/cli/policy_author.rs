//! The commands of a policy author, from `postern policy new` to a signed manifest.

use crate::support::policy::{TARGET, signer, with_toolchain};
use crate::support::{Run, WorkDir};

const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn good(dir: &WorkDir, args: &[&str]) -> Run {
    let run = dir.run(&[&["policy"], args].concat());
    assert_eq!(run.code, 0, "{args:?}: {run:?}");
    run
}

fn exists(dir: &WorkDir, file: &str) -> bool {
    dir.path(file).is_file()
}

#[test]
fn a_new_policy_builds_passes_its_cases_and_can_be_signed() {
    let dir = with_toolchain();
    good(&dir, &["new", "quota", "--sdk", CHECKOUT]);
    for file in [
        "Cargo.toml",
        "build.rs",
        "src/lib.rs",
        "cases.yaml",
        "README.md",
        ".gitignore",
    ] {
        assert!(exists(&dir, &format!("quota/{file}")), "{file}");
    }
    let run = good(
        &dir,
        &["build", "quota", "-o", "quota.wasm", "--target-dir", TARGET],
    );
    assert!(run.says("needs     config") && run.says("sha256:"), "{run:?}");
    let run = good(&dir, &["test", "quota", "--target-dir", TARGET]);
    assert!(run.says("5 cases: 5 passed, 0 failed"), "{run:?}");

    let config = ["--config", "{\"writer\": \"Operator\"}"];
    let post = |role| {
        [
            &[
                "policy",
                "run",
                "quota.wasm",
                "-X",
                "POST",
                "--role",
                role,
                "--json",
            ],
            &config[..],
        ]
        .concat()
    };
    let allowed = dir.run(&post("Operator"));
    assert_eq!(
        (allowed.code, &allowed.json()["decision"]),
        (0, &"allow".into()),
        "{allowed:?}"
    );
    let denied = dir.run(&post("Auditor"));
    assert_eq!(
        (denied.code, &denied.json()["code"]),
        (2, &"role_missing".into()),
        "{denied:?}"
    );
    let bench = [
        "bench",
        "quota.wasm",
        "--cases",
        "quota/cases.yaml",
        "--seconds",
        "1",
        "--json",
    ];
    assert!(
        good(&dir, &bench).json()["memory_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 65_536)
    );

    let ann = signer(&dir, "ann");
    std::fs::copy(dir.path("quota/cases.yaml"), dir.path("quota.cases.yaml")).unwrap();
    good(
        &dir,
        &[
            "sign",
            "manifest.json",
            "--key",
            "ann.pem",
            "--signer",
            "ann",
            "--add",
            "quota=quota.wasm",
        ],
    );
    let run = good(&dir, &["verify", "manifest.json", "--signer", &ann]);
    assert!(run.says("5 cases pass"), "{run:?}");
}

#[test]
fn a_new_spin_policy_builds_and_passes_its_cases() {
    let dir = with_toolchain();
    good(&dir, &["new", "window", "--template", "spin"]);
    let run = good(&dir, &["test", "window", "--target-dir", TARGET]);
    assert!(run.says("3 cases: 3 passed, 0 failed"), "{run:?}");
}

#[test]
fn a_new_crate_never_overwrites_files() {
    let dir = WorkDir::new();
    std::fs::create_dir(dir.path("full")).unwrap();
    dir.file("full/mine", "x");
    for (args, says) in [
        (&["7up", "--sdk", CHECKOUT][..], "must begin with a letter"),
        (&["fn", "--sdk", CHECKOUT], "is reserved"),
        (
            &["full", "--sdk", CHECKOUT],
            "is not empty; nothing there is overwritten",
        ),
        (
            &["a", "--directory", "full/mine", "--sdk", CHECKOUT],
            "cannot use full/mine",
        ),
        (&["a", "--sdk", "nowhere"], "neither a folder nor a version"),
        (&["a", "--sdk", "full"], "not the folder of postern-sdk"),
        (&["a", "--template", "go"], "possible values: rust, spin"),
    ] {
        let run = dir.run(&[&["policy", "new"], args].concat());
        assert_eq!(run.code, 3, "{args:?}: {run:?}");
        assert!(run.says(says), "{args:?}: {run:?}");
        assert!(!dir.path("a").exists(), "{args:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path("full")).unwrap().count(), 1);
}

#[test]
fn a_build_error_names_the_fix() {
    let dir = with_toolchain();
    std::fs::create_dir_all(dir.path("empty")).unwrap();
    good(&dir, &["new", "broken", "--sdk", CHECKOUT]);
    good(&dir, &["new", "silent", "--sdk", CHECKOUT]);
    good(&dir, &["new", "plain", "--sdk", CHECKOUT]);
    dir.file("broken/src/lib.rs", "fn authorize(");
    dir.file("silent/src/lib.rs", "pub fn authorize() {}");
    let manifest = std::fs::read_to_string(dir.path("plain/Cargo.toml")).unwrap();
    dir.file("plain/Cargo.toml", &manifest.replace("\"cdylib\", ", ""));
    for (target, says) in [
        ("absent", "postern policy new"),
        ("empty", "postern policy new"),
        ("broken/README.md", "neither a crate's folder nor a Cargo.toml"),
        ("broken", "broken does not build"),
        ("silent", "postern_sdk::policy!(authorize);"),
        ("plain", "crate-type = [\"cdylib\", \"rlib\"]"),
    ] {
        let run = dir.run(&["policy", "build", target, "--target-dir", TARGET]);
        assert_eq!(run.code, 3, "{target}: {run:?}");
        assert!(run.says(says), "{target}: {run:?}");
    }
}

#[test]
fn a_new_policy_outside_a_checkout_bundles_the_sdk() {
    let dir = with_toolchain();
    // This program is in a checkout; a copy of it is not.
    let program = dir.path("postern-alone");
    std::fs::copy(env!("CARGO_BIN_EXE_postern"), &program).expect("a copy");
    let output = std::process::Command::new(&program)
        .args(["policy", "new", "alone"])
        .current_dir(dir.path(""))
        .output()
        .expect("postern starts");
    assert!(output.status.success(), "{output:?}");
    for file in [
        "postern/sdk/Cargo.toml",
        "postern/sdk/src/lib.rs",
        "postern/wit/world.wit",
    ] {
        assert!(exists(&dir, &format!("alone/{file}")), "{file}");
    }
    let run = good(
        &dir,
        &["build", "alone", "-o", "alone.wasm", "--target-dir", TARGET],
    );
    assert!(
        run.says("needs     config") && exists(&dir, "alone.wasm"),
        "{run:?}"
    );
}
