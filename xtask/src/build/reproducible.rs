//! The same source gives the same filter, byte for byte, wherever it is built.
//!
//! What would differ is paths: panic messages name source files. They are replaced by names that every
//! machine shares.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use postern_testbed::{paths, wasm};

use super::{Filter, TARGET, filter_into};
use crate::command;

/// The Cargo configuration (for `--config`) that takes this machine's paths out of the filter.
pub(super) fn flags(target: &Path) -> Result<String> {
    // Where several prefixes match, the compiler takes the last: the target folder may be in the workspace.
    let home = cargo_home()?;
    let mut replaced = vec![
        (paths::workspace(), "/postern".to_owned()),
        (home.clone(), "/cargo".to_owned()),
    ];
    replaced.extend(registries(&home).map(|sources| (sources, "/crates".to_owned())));
    replaced.push(standard_library()?);
    replaced.push((target.to_path_buf(), "/target".to_owned()));
    let flags: Vec<String> = replaced
        .iter()
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .collect();
    // An array of JSON strings is one of TOML strings.
    Ok(format!(
        "target.{TARGET}.rustflags={}",
        serde_json::to_string(&flags)?
    ))
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(set) = std::env::var_os("CARGO_HOME").filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(set));
    }
    let home = std::env::home_dir().context("there is no home folder; set CARGO_HOME")?;
    Ok(home.join(".cargo"))
}

/// Where the dependencies' sources are: a folder for each registry, named after it. A mirror must make no
/// difference. (They are there: this program is built from the same registry before it builds the filter.)
fn registries(cargo_home: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let folders = std::fs::read_dir(cargo_home.join("registry/src"))
        .into_iter()
        .flatten()
        .flatten();
    folders.map(|folder| folder.path())
}

/// The standard library's sources get the name they have where its sources are not installed.
fn standard_library() -> Result<(PathBuf, String)> {
    let rustc = || Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let sysroot = command::stdout(rustc().args(["--print", "sysroot"]))?;
    let version = command::stdout(rustc().arg("-vV"))?;
    let commit = version
        .lines()
        .find_map(|line| line.strip_prefix("commit-hash: "))
        .unwrap_or("unknown");
    let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
    Ok((sources, format!("/rustc/{commit}")))
}

/// Builds from scratch in two folders. The second result stays as the filter.
pub(super) fn check() -> Result<Filter> {
    let scratch = |name: &str| -> Result<PathBuf> {
        let folder = paths::target().join("reproducible").join(name);
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        Ok(folder)
    };
    let (one, other) = (scratch("one")?, scratch("other")?);
    let first = filter_into(&one, &one.join("postern.wasm"))?;
    let second = filter_into(&other, &wasm::built())?;
    if first.sha256 != second.sha256 {
        bail!(
            "the build is not reproducible: compare {} and {}",
            first.path.display(),
            second.path.display()
        );
    }
    Ok(second)
}
