//! Runs cargo.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use cargo_metadata::{Artifact, CrateType, Message};

use super::project::Project;

/// Builds the crate's library and returns its .wasm file. Progress and compiler messages go to standard error.
pub(super) fn build(project: &Project, profile: &str, target_dir: Option<&Path>) -> Result<PathBuf> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--lib", "--message-format=json-render-diagnostics"])
        .args(["--target", project.kind.target(), "--profile", profile])
        .arg("--manifest-path")
        .arg(&project.manifest)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if let Some(folder) = target_dir {
        cargo.arg("--target-dir").arg(folder);
    }
    let mut child = cargo.spawn().context("cannot run cargo")?;
    let messages = child.stdout.take().context("cargo has no output")?;
    let mut found = None;
    for message in Message::parse_stream(BufReader::new(messages)) {
        if let Message::CompilerArtifact(artifact) = message.context("cannot parse the output of cargo")? {
            found = wasm(project, &artifact).or(found);
        }
    }
    if !child.wait().context("cannot wait for cargo")?.success() {
        bail!("{} does not build: see the compiler messages above", project.name);
    }
    found.with_context(|| format!("cargo built no .wasm file for {}", project.name))
}

fn wasm(project: &Project, artifact: &Artifact) -> Option<PathBuf> {
    let ours = artifact.manifest_path.as_std_path() == project.manifest
        && artifact.target.crate_types.contains(&CrateType::CDyLib);
    let mut files = artifact.filenames.iter().filter(|_| ours);
    files
        .find(|file| file.extension() == Some("wasm"))
        .map(|file| file.as_std_path().to_owned())
}
