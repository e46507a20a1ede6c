//! `postern kms-proxy`: runs the separate program `postern-kms-proxy`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::output::Output;

const PROGRAM: &str = "postern-kms-proxy";
const SUBCOMMAND: &str = "kms-proxy";

#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "Runs postern-kms-proxy with the same arguments. It is searched for in the directory of this program, then \
    on PATH. `postern kms-proxy --help` prints its help.\n\n\
    Examples:\n  \
    postern kms-proxy --config kms-proxy.yaml\n  \
    postern kms-proxy keygen --config kms-proxy.yaml --label kernel-2026"
)]
pub(crate) struct Args {
    /// Arguments of postern-kms-proxy
    // They are passed on as they were given, see `arguments`.
    #[arg(value_name = "ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    _arguments: Vec<OsString>,
}

pub(crate) fn run() -> Result<Output> {
    let this = std::env::current_exe().context("cannot find this program")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = candidates(&this, std::env::split_paths(&path));
    let Some(program) = candidates.iter().find(|path| path.is_file()) else {
        let paths: Vec<_> = candidates.iter().map(|path| path.display().to_string()).collect();
        bail!(
            "{PROGRAM} is not installed: not found at {}. Install it in the directory of this program",
            paths.join(", ")
        );
    };
    check_is_program(program).with_context(|| format!("cannot run {}", program.display()))?;
    // Returns only if the program cannot be run.
    let error = Command::new(program).args(arguments()).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// The arguments after the subcommand, as they were given: clap would take a leading `--` for itself.
fn arguments() -> impl Iterator<Item = OsString> {
    let given = std::env::args_os().skip(1);
    given.skip_while(|argument| argument != SUBCOMMAND).skip(1)
}

/// Rejects a file that is neither a binary nor a script. The C library would run it as a shell script, and an empty one,
/// as a truncated installation leaves it, would succeed.
fn check_is_program(path: &Path) -> Result<()> {
    let mut head = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(4).read_to_end(&mut head)?,
        // A program that may be run and not read is no script.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Every format of programs but ELF begins with a byte above 127, or has one among the first four.
    let is_program =
        head.starts_with(b"#!") || head == b"\x7fELF" || head.iter().any(|byte| !byte.is_ascii());
    ensure!(is_program, "it is not a program; install it again");
    Ok(())
}

/// The paths to try: in the directory of this program, then on PATH.
fn candidates(this: &Path, path: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let own = this.parent().map(Path::to_owned);
    // An empty entry of PATH means the working directory, which anyone may be able to write to.
    let directories = own.into_iter().chain(path.filter(|entry| entry.is_absolute()));
    let mut candidates = Vec::new();
    for directory in directories {
        let path = directory.join(PROGRAM);
        if !candidates.contains(&path) {
            candidates.push(path);
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_this_program_comes_before_path() {
        let path = ["/usr/local/bin", "", "bin", "/opt/postern", "/usr/bin"].map(PathBuf::from);
        let candidates = candidates(Path::new("/opt/postern/postern"), path.into_iter());
        let expected = [
            "/opt/postern/postern-kms-proxy",
            "/usr/local/bin/postern-kms-proxy",
            "/usr/bin/postern-kms-proxy",
        ];
        assert_eq!(candidates, expected.map(PathBuf::from));
    }
}
