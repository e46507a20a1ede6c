//! Programs from the system's packages.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// Makes sure that a program is on PATH.
pub(super) fn need(program: &str, package: &str, purpose: &str) -> Result<()> {
    if command::which(program).is_some() {
        return Ok(());
    }
    install(&[package], &format!("`{program}`, which {purpose}, is missing"))?;
    match command::which(program) {
        Some(_) => Ok(()),
        None => bail!("`{program}` is still missing after installing the package {package}"),
    }
}

/// Makes sure of what is not on PATH.
pub(super) fn need_that(there: impl Fn() -> bool, package: &str, problem: &str) -> Result<()> {
    if there() {
        return Ok(());
    }
    install(&[package], problem)?;
    if there() {
        Ok(())
    } else {
        bail!("{problem}, still, after installing the package {package}")
    }
}

/// Whether a file is in a folder of `root`, whichever it is: packages put versions beside each other.
pub(super) fn anywhere(root: &str, file: &str) -> bool {
    let folders = std::fs::read_dir(root).into_iter().flatten().flatten();
    folders
        .into_iter()
        .any(|folder| folder.path().join(file).is_file())
}

/// Installs Debian packages as root; says what to install to anyone else.
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
            bail!("{problem}, and `apt-get install -y {names}` failed (its messages are above)");
        }
    }
    Ok(())
}

fn apt_get(verb: &str, packages: &[&str]) -> Result<bool> {
    let mut apt = Command::new("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive")
        .args(["-q", verb, "-y"])
        .args(packages);
    let said = command::listen(&mut apt)?;
    if !said.success {
        eprintln!("{}", said.stderr.trim_end());
    }
    Ok(said.success)
}

fn is_root() -> bool {
    command::read(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}
