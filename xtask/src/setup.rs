//! `cargo xtask setup`: installs what builds and tests require besides a Rust toolchain.
//!
//! Each step installs only what is missing, so that `test` and `up` can begin with it.

mod apt;
mod envoy;
mod rust_targets;

use std::path::PathBuf;

use anyhow::Result;

use crate::command;

/// The tools that were found or installed.
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

/// Installs what only tests require: servers and other programs that they run.
pub(crate) fn test_programs() -> Result<()> {
    apt::require(
        "redis-server",
        "redis-server",
        "stores key-value data of policies",
    )?;
    apt::require("openssl", "openssl", "verifies signatures independently")?;
    apt::require(
        "setpriv",
        "util-linux",
        "starts Postgres as a user other than root",
    )?;
    apt::require(
        "jq",
        "jq",
        "verifies the chain of an exported audit log independently",
    )?;
    apt::require("strace", "strace", "makes system calls of the audit log fail")?;
    let postgres =
        || apt::in_any_version_of("/usr/lib/postgresql", "bin/initdb") || command::which("initdb").is_some();
    apt::require_that(
        postgres,
        "postgresql",
        "a Postgres server, which stores the audit log of several hosts, is missing",
    )?;
    token()
}

/// Installs SoftHSM, a PKCS#11 token in software that stores keys in tests and the demo.
pub(crate) fn token() -> Result<()> {
    apt::require(
        "softhsm2-util",
        "softhsm2",
        "creates the token that stores the keys",
    )
}

/// Installs what only the benchmark requires: the load generator, and the program that pins it to a core.
pub(crate) fn load_generator() -> Result<()> {
    apt::require("wrk", "wrk", "generates load on Envoy")?;
    apt::require(
        "taskset",
        "util-linux",
        "pins Envoy and the load generator to separate cores",
    )
}
