//! Runs other programs.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use postern_testbed::paths;

/// The cargo that runs this program, so that every build uses the same toolchain.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(paths::workspace());
    // Cargo's variables about this package are removed. The build script of ring depends on them: otherwise ring and its
    // dependents would be rebuilt whenever cargo is called by hand and from here in turn.
    let is_package_variable = |name: &str| {
        let prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        prefixes.iter().any(|prefix| name.starts_with(prefix))
    };
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in names.filter(|name| is_package_variable(name)) {
        cargo.env_remove(name);
    }
    cargo
}

/// Runs a program with its output on this terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let name = name(command);
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}

/// The captured output of a program, and whether it succeeded.
pub(crate) struct CapturedOutput {
    pub(crate) success: bool,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program and captures its output, whether or not it succeeds.
pub(crate) fn capture(command: &mut Command) -> Result<CapturedOutput> {
    let name = name(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    Ok(CapturedOutput {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// The standard output of a program that must succeed.
pub(crate) fn stdout(command: &mut Command) -> Result<String> {
    let name = name(command);
    let output = capture(command)?;
    if !output.success {
        bail!("{name} failed:\n{}", output.stderr.trim_end());
    }
    Ok(output.stdout)
}

/// The path of a program on PATH.
pub(crate) fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// The program and its first argument, for error messages.
fn name(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let program = program
        .file_name()
        .unwrap_or(command.get_program())
        .to_string_lossy();
    match command.get_args().next() {
        Some(first) => format!("`{program} {}`", first.to_string_lossy()),
        None => format!("`{program}`"),
    }
}
