//! Reads the command line.

use std::process::ExitCode;

use clap::Parser;

use crate::output::Exit;

/// The command line of this process.
///
/// # Errors
/// The exit code, once help, the version or the error is printed.
pub fn parse<C: Parser>() -> Result<C, ExitCode> {
    C::try_parse().map_err(|usage| {
        // Help and version are no failure; clap colours what it prints by the same rules as we do.
        let _ = usage.print();
        let exit = if usage.use_stderr() {
            Exit::Invalid
        } else {
            Exit::Allowed
        };
        exit.into()
    })
}
