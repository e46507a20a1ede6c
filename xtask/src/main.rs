//! `cargo xtask`: what the README's commands call.
//!
//! Written in Rust rather than shell so that it runs wherever the workspace builds, shares the end-to-end
//! tests' Envoy runner, and says what to do when something is missing.

mod bench;
mod build;
mod command;
mod setup;
mod test;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  cargo xtask up                          build everything, start the demo, stay until Ctrl-C
  cargo xtask up --once                   the same, exit 0 if every answer is as expected
  cargo xtask test                        all tests, Envoy's included
  cargo xtask test -- -p postern-gate     only one crate's
  cargo xtask attack                      only the attacks that once succeeded
  cargo xtask build --check-reproducible  build the filter twice and compare
  cargo xtask bench gate                  CPU per request beside Envoy's own filters";

/// Build, test, try and measure Postern.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", after_help = EXAMPLES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what building and testing need: Rust's wasm targets and Envoy
    Setup,
    Build(build::Args),
    Test(test::Args),
    Attack(test::AttackArgs),
    Up(up::Args),
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Setup => setup::run().map(|tools| println!("Envoy: {}", tools.envoy.display())),
        Task::Build(args) => build::run(&args),
        Task::Test(args) => test::run(args),
        Task::Attack(args) => test::attack(args),
        Task::Up(args) => up::run(&args),
        Task::Bench(args) => bench::run(&args),
    };
    match done {
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
