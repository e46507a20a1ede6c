//! `cargo xtask bench policy`: the time of a policy decision.

use std::process::Command;

use anyhow::Result;

use crate::{build, command, setup};

/// Builds the modules and measures the same decision in three ways.
pub(super) fn run() -> Result<()> {
    eprintln!("[1/4] setting up, and building the policy modules");
    setup::run()?;
    let modules = build::modules::build()?;
    eprintln!("[2/4] in the host's process, with criterion");
    bench("policy", &modules)?;
    eprintln!("[3/4] the same, with `postern policy bench`");
    let module = modules.folder.join("rbac.wasm");
    let cases = modules.folder.join("rbac.cases.yaml");
    let mut postern = Command::new(&modules.postern);
    postern
        .args(["policy", "bench"])
        .arg(module)
        .arg("--cases")
        .arg(cases);
    command::run(&mut postern)?;
    eprintln!("[4/4] through Check, on a Unix socket");
    bench("check", &modules)
}

/// Runs a benchmark in the dev profile, in which dependencies are optimised and already compiled for tests.
fn bench(name: &str, modules: &build::modules::Modules) -> Result<()> {
    let mut cargo = command::cargo();
    cargo
        .args(["bench", "--workspace", "--profile", "dev", "--bench", name])
        .env("POSTERN_POLICIES", &modules.folder);
    command::run(&mut cargo)
}
