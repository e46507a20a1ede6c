//! `cargo xtask build`: the filter and the policy modules as they ship.

pub(crate) mod modules;
mod reproducible;
mod slim;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use postern_testbed::sign::hex;
use postern_testbed::{paths, wasm};
use sha2::{Digest, Sha256};

use crate::{command, setup};

const PACKAGE: &str = "postern-filter";
const ARTEFACT: &str = "postern.wasm";
const TARGET: &str = "wasm32-wasip1";
const PROFILE: &str = "filter";
/// Every worker of every gateway compiles and holds it; a jump in size wants a look, not a shrug.
const MAX_BYTES: usize = 1_500_000;

/// Build the filter, target/postern/postern.wasm, and the policy modules, target/postern/policies/*.wasm
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The filter's build does not depend on where the checkout, Cargo's home and the toolchain are (RUSTFLAGS is not used for it).

Examples:
  cargo xtask build
  cargo xtask build --check-reproducible")]
pub(crate) struct Args {
    /// Build the filter alone, twice from scratch, in two target folders, and compare the digests
    #[arg(long)]
    check_reproducible: bool,
}

/// The filter, ready to be loaded.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) path: PathBuf,
    bytes: usize,
    sha256: String,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run()?;
    let filter = if args.check_reproducible {
        reproducible::check()?
    } else {
        filter()?
    };
    println!(
        "{}  {} bytes  sha256:{}",
        filter.path.display(),
        filter.bytes,
        filter.sha256
    );
    if args.check_reproducible {
        return Ok(());
    }
    modules::build()?.print()
}

/// Builds the filter into the target folder.
pub(crate) fn filter() -> Result<Filter> {
    filter_into(&paths::target(), &wasm::built())
}

fn filter_into(target: &Path, output: &Path) -> Result<Filter> {
    let mut cargo = command::cargo();
    cargo
        .args([
            "build",
            "--package",
            PACKAGE,
            "--profile",
            PROFILE,
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(target)
        .arg("--config")
        .arg(reproducible::flags(target)?)
        // They would take the place of the flags above.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command::run(&mut cargo)?;

    let compiled = target.join(TARGET).join(PROFILE).join(ARTEFACT);
    let module = fs::read(&compiled).with_context(|| format!("cannot read {}", compiled.display()))?;
    let module = slim::slim(&module)?;
    if module.len() > MAX_BYTES {
        bail!(
            "the filter has grown to {} bytes; at most {MAX_BYTES} are allowed",
            module.len()
        );
    }
    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(output, &module).with_context(|| format!("cannot write {}", output.display()))?;
    let sha256 = hex(&Sha256::digest(&module));
    Ok(Filter {
        path: output.to_path_buf(),
        bytes: module.len(),
        sha256,
    })
}
