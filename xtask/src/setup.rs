//! `cargo xtask setup`: what building and testing need besides a Rust toolchain.
//!
//! Every step looks first and acts only where something is missing, so that `test` and `up` can begin with it.

mod apt;
mod envoy;
mod rust_targets;

use std::path::PathBuf;

use anyhow::Result;

use crate::command;

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
    apt::need("redis-server", "redis-server", "keeps values of policies")?;
    apt::need(
        "openssl",
        "openssl",
        "verifies signatures with other code than ours",
    )?;
    apt::need(
        "setpriv",
        "util-linux",
        "starts Postgres as another user than root",
    )?;
    apt::need(
        "jq",
        "jq",
        "follows the chain of an exported audit log without us",
    )?;
    apt::need("strace", "strace", "makes system calls of the audit log fail")?;
    let postgres =
        || apt::anywhere("/usr/lib/postgresql", "bin/initdb") || command::which("initdb").is_some();
    apt::need_that(
        postgres,
        "postgresql",
        "a Postgres server, which keeps the audit log of a fleet, is missing",
    )?;
    token()
}

/// What tests and the demo keep keys in: a PKCS#11 token in software.
pub(crate) fn token() -> Result<()> {
    apt::need("softhsm2-util", "softhsm2", "makes the token that holds the keys")
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
