//! `postern kms-proxy`: runs `postern-kms-proxy`, a program of its own.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::output::Output;

/// The program.
const PROGRAM: &str = "postern-kms-proxy";

#[derive(Debug, clap::Args)]
#[command(
    disable_help_flag = true,
    after_help = "It runs postern-kms-proxy, which is looked for beside this program, then on PATH, with all \
    arguments as they are: `postern kms-proxy --help` prints its help.\n\n\
    Examples:\n  \
    postern kms-proxy --config kms-proxy.yaml\n  \
    postern kms-proxy keygen --config kms-proxy.yaml --label kernel-2026"
)]
pub(crate) struct Args {
    /// Arguments of postern-kms-proxy
    #[arg(value_name = "ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> Result<Output> {
    let this = std::env::current_exe().context("cannot find this program")?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = places(&this, std::env::split_paths(&path));
    let Some(program) = places.iter().find(|place| place.is_file()) else {
        let places: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        bail!(
            "{PROGRAM} is not installed: there is none at {}. Install it beside this program",
            places.join(", ")
        );
    };
    // Returns only if it cannot be run.
    let error = Command::new(program).args(&args.arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// Where the program is looked for: beside this one, then on PATH.
fn places(this: &Path, path: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let beside = this.parent().map(Path::to_owned);
    // An empty entry of PATH is the working directory, which anybody may have written to.
    let directories = beside.into_iter().chain(path.filter(|entry| entry.is_absolute()));
    let mut places = Vec::new();
    for directory in directories {
        let place = directory.join(PROGRAM);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_looked_for_beside_this_program_and_then_on_path() {
        let path = ["/usr/local/bin", "", "bin", "/opt/postern", "/usr/bin"].map(PathBuf::from);
        let places = places(Path::new("/opt/postern/postern"), path.into_iter());
        let expected = [
            "/opt/postern/postern-kms-proxy",
            "/usr/local/bin/postern-kms-proxy",
            "/usr/bin/postern-kms-proxy",
        ];
        assert_eq!(places, expected.map(PathBuf::from));
    }
}
