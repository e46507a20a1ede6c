//! `cargo xtask test` and `cargo xtask attack`.

use anyhow::Result;

use crate::{build, command, progress, setup};

/// Run all tests, with Envoy and with the filter and policy modules as released
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask test
  cargo xtask test -- -p postern-gate
  cargo xtask test -- --test e2e jwks::")]
pub(crate) struct Args {
    /// Passed on to `cargo test --workspace`
    #[arg(last = true, value_name = "CARGO TEST ARGUMENTS")]
    rest: Vec<String>,
}

/// Run regression tests of attacks that once succeeded, by class (`tests/attack`); `test` includes them
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  cargo xtask attack
  cargo xtask attack -- hosts")]
pub(crate) struct AttackArgs {
    /// Passed on to the test program: a class, or part of a test's name
    #[arg(last = true, value_name = "TEST ARGUMENTS")]
    rest: Vec<String>,
}

pub(crate) fn run(args: Args) -> Result<()> {
    test(args.rest)
}

pub(crate) fn attack(args: AttackArgs) -> Result<()> {
    let target = ["--test", "attack", "--"].map(str::to_owned);
    test(target.into_iter().chain(args.rest).collect())
}

fn test(rest: Vec<String>) -> Result<()> {
    eprintln!("[1/5] setting up");
    let tools = setup::run()?;
    setup::test_programs()?;
    eprintln!("[2/5] building the filter");
    let filter = progress::during("building the filter", build::filter)?;
    eprintln!("[3/5] building the policy host and its modules");
    let modules = progress::during("building the policy host and its modules", build::modules::build)?;
    eprintln!("[4/5] running their case files");
    modules.test()?;
    eprintln!("[5/5] testing");
    let mut cargo = command::cargo();
    cargo.args(["test", "--workspace"]).args(rest);
    command::run(
        cargo
            .env("ENVOY_BIN", tools.envoy)
            .env("POSTERN_WASM", filter.path)
            .env("POSTERN_BIN", modules.postern)
            .env("POSTERN_KMS_PROXY_BIN", modules.kms_proxy)
            .env("POSTERN_POLICIES", modules.folder),
    )
}
