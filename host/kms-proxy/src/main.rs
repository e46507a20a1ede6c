//! `postern-kms-proxy`: signs with the keys of a PKCS#11 token. It is a separate program, so that the process that
//! holds the token's PIN contains little else.
#![forbid(unsafe_code)]

mod cli;

use std::process::ExitCode;

use postern_command::output::Output;

fn main() -> ExitCode {
    match postern_command::parse::<cli::Cli>() {
        Ok(cli) => {
            let output = cli.run();
            output.unwrap_or_else(|error| Output::failure(&error)).print()
        }
        Err(exit) => exit,
    }
}
