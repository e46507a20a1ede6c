//! `cargo xtask`: the development tasks in the README.
//!
//! Written in Rust rather than shell so that it runs wherever the workspace builds, shares the end-to-end
//! tests' Envoy runner, and reports what to install when something is missing.

mod bench;
mod build;
mod command;
mod progress;
mod setup;
mod test;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  cargo xtask up                          build everything, start the demo, stay until Ctrl-C
  cargo xtask up --once                   the same, exit 0 if every response is as expected
  cargo xtask test                        all tests, including those with Envoy
  cargo xtask test -- -p postern-gate     only the tests of one crate
  cargo xtask attack                      only regression tests of attacks that once succeeded
  cargo xtask build --check-reproducible  build the filter twice and compare
  cargo xtask bench gate                  CPU per request compared with Envoy's own filters";

/// Build, test, demonstrate and benchmark Postern.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", after_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what builds and tests require: Rust's wasm targets and Envoy
    Setup,
    Build(build::Args),
    Test(test::Args),
    Attack(test::AttackArgs),
    Up(up::Args),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Setup => setup::run().map(|tools| println!("Envoy: {}", tools.envoy.display())),
        Task::Build(args) => build::run(&args),
        Task::Test(args) => test::run(args),
        Task::Attack(args) => test::attack(args),
        Task::Up(args) => up::run(&args),
        Task::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
