//! The `postern` program: the operators' commands, the policy host and the KMS proxy.
//!
//! Each command returns what it prints ([`output::Output`]); input is read and output is printed at the edges.
#![forbid(unsafe_code)]

mod audit;
mod check;
mod cli;
mod document;
mod input;
mod key;
mod kms_proxy;
mod load;
mod policy;
mod private_file;
mod render;
mod secrets;
mod serve;
mod sign;
mod signer;
mod target;
mod time;
mod token;
mod try_request;

use std::ffi::OsString;
use std::process::ExitCode;

use output::Output;
// Every command uses them, as `crate::output` and so on.
use postern_command::{output, style, text};

/// The hidden command with which this program runs itself to compile a policy module in a resource-limited process.
const COMPILER: &str = "compile-policy-module";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == COMPILER) {
        return compile(&arguments.collect::<Vec<_>>());
    }
    match postern_command::parse::<cli::Cli>() {
        Ok(cli) => {
            let output = cli.command.run();
            output.unwrap_or_else(|error| Output::failure(&error)).print()
        }
        Err(exit) => exit,
    }
}

fn compile(arguments: &[OsString]) -> ExitCode {
    match postern_policy::compile_in_child(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
