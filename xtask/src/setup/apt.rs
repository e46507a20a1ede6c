//! Installs programs from Debian packages.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// Requires a program on PATH; installs its package if it is missing.
pub(super) fn require(program: &str, package: &str, purpose: &str) -> Result<()> {
    if command::which(program).is_some() {
        return Ok(());
    }
    install(&[package], &format!("`{program}`, which {purpose}, is missing"))?;
    match command::which(program) {
        Some(_) => Ok(()),
        None => bail!("`{program}` is still missing after installing the package {package}"),
    }
}

/// Requires what `is_installed` checks; installs the package if it is missing.
pub(super) fn require_that(is_installed: impl Fn() -> bool, package: &str, problem: &str) -> Result<()> {
    if is_installed() {
        return Ok(());
    }
    install(&[package], problem)?;
    if is_installed() {
        Ok(())
    } else {
        bail!("{problem}, even after installing the package {package}")
    }
}

/// Whether `file` is in any folder of `root`: packages install a folder per version.
pub(super) fn in_any_version_of(root: &str, file: &str) -> bool {
    let folders = std::fs::read_dir(root).into_iter().flatten().flatten();
    folders
        .into_iter()
        .any(|folder| folder.path().join(file).is_file())
}

/// Installs Debian packages as root. Otherwise fails with the command to run.
pub(super) fn install(packages: &[&str], problem: &str) -> Result<()> {
    let names = packages.join(" ");
    if command::which("apt-get").is_none() {
        bail!("{problem}; install it (on Debian and Ubuntu: {names})");
    }
    if !is_root() {
        bail!("{problem}; install it with: sudo apt-get install -y {names}");
    }
    eprintln!("{problem}: installing {names}");
    if !apt_get("install", packages)? {
        // A fresh container has no package lists.
        apt_get("update", &[])?;
        if !apt_get("install", packages)? {
            bail!("{problem}, and `apt-get install -y {names}` failed (its output is above)");
        }
    }
    Ok(())
}

fn apt_get(verb: &str, packages: &[&str]) -> Result<bool> {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-q", verb, "-y"])
        .args(packages);
    let output = command::capture(&mut apt)?;
    if !output.success {
        eprintln!("{}", output.stderr.trim_end());
    }
    Ok(output.success)
}

fn is_root() -> bool {
    command::stdout(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}
