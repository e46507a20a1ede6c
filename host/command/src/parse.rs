//! Parses the command line.

use std::process::ExitCode;

use clap::Parser;

use crate::output::Exit;

/// Parses the command line of this process.
///
/// # Errors
/// The exit code, after printing help, the version or the error.
pub fn parse<C: Parser>() -> Result<C, ExitCode> {
    C::try_parse().map_err(|usage| {
        // Help and version are not failures. clap applies the same colour rules to its own output.
        let _ = usage.print();
        let exit = if usage.use_stderr() {
            Exit::Invalid
        } else {
            Exit::Allowed
        };
        exit.into()
    })
}
