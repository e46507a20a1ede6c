//! The policy modules that ship, built as their authors build them: by `postern policy build`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use postern_testbed::sign::hex;
use postern_testbed::{modules, paths};
use sha2::{Digest, Sha256};

use crate::command;

/// What is in `policies/` and no module: what modules are written with.
const SDK: &str = "sdk";

/// The modules, ready to be loaded, and the programs that run them and sign for them.
#[derive(Debug)]
pub(crate) struct Modules {
    pub(crate) postern: PathBuf,
    pub(crate) kms_proxy: PathBuf,
    pub(crate) folder: PathBuf,
    names: Vec<String>,
}

/// Builds all modules, and puts their cases beside them.
pub(crate) fn build() -> Result<Modules> {
    build_named(names(&sources())?)
}

/// Builds these modules, and puts their cases beside them.
pub(crate) fn build_named(names: Vec<String>) -> Result<Modules> {
    let [postern, kms_proxy] = programs()?;
    let folder = modules::built();
    fs::create_dir_all(&folder)?;
    let sources = sources();
    for name in &names {
        let module = folder.join(format!("{name}.wasm"));
        let mut build = Command::new(&postern);
        build.args(["policy", "build"]).arg(sources.join(name));
        build
            .arg("--output")
            .arg(&module)
            .arg("--target-dir")
            .arg(paths::target());
        // It prints more of a module than is of interest here.
        command::run(build.stdout(Stdio::null()))?;
        let (from, to) = (sources.join(name).join("cases.yaml"), cases(&folder, name));
        fs::copy(&from, to).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(Modules {
        postern,
        kms_proxy,
        folder,
        names,
    })
}

impl Modules {
    /// A line for each: where it is, its size and its digest.
    pub(super) fn print(&self) -> Result<()> {
        for name in &self.names {
            let path = self.module(name);
            let module = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            println!(
                "{}  {} bytes  sha256:{}",
                path.display(),
                module.len(),
                hex(&Sha256::digest(&module))
            );
        }
        Ok(())
    }

    /// Runs the cases of each module. Prints the summary of each, and the whole output of those that fail.
    pub(crate) fn test(&self) -> Result<()> {
        let mut failed = Vec::new();
        for name in &self.names {
            let mut test = Command::new(&self.postern);
            test.args(["policy", "test"]).arg(self.module(name));
            let output = command::capture(test.arg("--cases").arg(cases(&self.folder, name)))?;
            if output.success {
                println!("  {name}: {}", output.stdout.lines().last().unwrap_or_default());
            } else {
                println!("  {name}:\n{}{}", output.stdout, output.stderr);
                failed.push(name.as_str());
            }
        }
        ensure!(failed.is_empty(), "the cases of {} fail", failed.join(", "));
        Ok(())
    }

    fn module(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.wasm"))
    }
}

fn cases(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.cases.yaml"))
}

/// Builds the programs, beside each other. With the features of the whole workspace, as tests do: otherwise its dependencies, wasmtime
/// among them, would be compiled twice.
fn programs() -> Result<[PathBuf; 2]> {
    const NAMES: [&str; 2] = ["postern", "postern-kms-proxy"];
    let mut cargo = command::cargo();
    cargo
        .args(["build", "--workspace"])
        .args(NAMES.iter().flat_map(|name| ["--bin", name]))
        .arg("--target-dir")
        .arg(paths::target());
    command::run(&mut cargo)?;
    let folder = paths::target().join("debug");
    Ok(NAMES.map(|name| folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))))
}

fn sources() -> PathBuf {
    paths::workspace().join("policies")
}

/// The crates in `policies/` but the SDK, in order.
fn names(sources: &Path) -> Result<Vec<String>> {
    let folders = fs::read_dir(sources).with_context(|| format!("cannot read {}", sources.display()))?;
    let mut names = Vec::new();
    for folder in folders {
        let folder = folder?;
        let name = folder.file_name().to_string_lossy().into_owned();
        if name != SDK && folder.path().join("Cargo.toml").is_file() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_has_cases() {
        let sources = sources();
        let names = names(&sources).unwrap();
        assert!(
            names.contains(&"rbac".to_owned()) && !names.contains(&SDK.to_owned()),
            "{names:?}"
        );
        for name in names {
            assert!(sources.join(&name).join("cases.yaml").is_file(), "{name}");
        }
    }
}
