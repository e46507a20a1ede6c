//! `postern`: checks a `gate.yaml`, tries requests against it, makes keys, tokens and signatures.
//!
//! Each command works on what it read and returns what is to be printed ([`output::Output`]); reading and printing
//! stand at the edges.
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
// As if they stood here: every command uses them.
use postern_command::{output, paint, text};

/// How this program calls itself to compile a policy module, in a process that is bounded.
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
    match postern_policy::compile_as_child(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
