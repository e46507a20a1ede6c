//! `cargo xtask setup`: what building and testing need besides a Rust toolchain.
//!
//! Every step looks first and acts only where something is missing, so that `test` and `up` can begin with it.

mod apt;
mod envoy;
mod rust_targets;

use std::path::PathBuf;

use anyhow::Result;

/// What was found or installed.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) envoy: PathBuf,
}

pub(crate) fn run() -> Result<Tools> {
    rust_targets::install()?;
    Ok(Tools {
        envoy: envoy::install()?,
    })
}

/// What only tests need: servers that they start for themselves.
pub(crate) fn servers() -> Result<()> {
    apt::need("redis-server", "redis-server", "keeps values of policies")
}

/// What only the benchmark needs: the load generator, and the program that pins it to a core.
pub(crate) fn load_generator() -> Result<()> {
    apt::need("wrk", "wrk", "puts load on Envoy")?;
    apt::need(
        "taskset",
        "util-linux",
        "keeps Envoy and the load on separate cores",
    )
}
