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
mod output;
mod policy;
mod private_file;
mod render;
mod secrets;
mod serve;
mod sign;
mod signer;
mod style;
mod target;
mod text;
mod time;
mod token;
mod try_request;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use output::{Exit, Output};

/// The hidden command with which this program runs itself to compile a policy module in a resource-limited process.
const COMPILER: &str = "compile-policy-module";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == COMPILER) {
        return compile(&arguments.collect::<Vec<_>>());
    }
    let output = match cli::Cli::try_parse() {
        Ok(cli) => cli.command.run().unwrap_or_else(|error| Output::failure(&error)),
        // Help and version are not failures. clap applies the same colour rules to its own output.
        Err(usage) => {
            let _ = usage.print();
            let exit = if usage.use_stderr() {
                Exit::Invalid
            } else {
                Exit::Allowed
            };
            return exit.into();
        }
    };
    output.print()
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
