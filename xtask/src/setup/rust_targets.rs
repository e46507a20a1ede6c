//! Installs Rust's standard library for the wasm targets.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command;

/// Targets, and what is built for each.
const TARGETS: &[(&str, &str)] = &[
    ("wasm32-wasip1", "the filter: Envoy offers WASI preview 1"),
    (
        "wasm32-unknown-unknown",
        "policy modules: components without WASI",
    ),
    ("wasm32-wasip2", "policy modules written with spin-sdk"),
];

pub(super) fn install() -> Result<()> {
    for (target, purpose) in TARGETS {
        if is_installed(target)? {
            continue;
        }
        if command::which("rustup").is_none() {
            bail!(
                "this Rust has no standard library for {target} ({purpose}), and there is no rustup to install \
                 it with; install rustup, or your distribution's package for that target"
            );
        }
        eprintln!("installing Rust's standard library for {target} ({purpose})");
        command::run(Command::new("rustup").args(["target", "add", target]))?;
    }
    Ok(())
}

/// Whether the compiler has the target. Queries rustc rather than rustup: it is what compiles, it is faster, and it works
/// without rustup.
fn is_installed(target: &str) -> Result<bool> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let folder = command::stdout(rustc.args(["--print", "target-libdir", "--target", target]))?;
    Ok(contains_core(Path::new(folder.trim())))
}

fn contains_core(folder: &Path) -> bool {
    let Ok(files) = std::fs::read_dir(folder) else {
        return false;
    };
    files
        .flatten()
        .any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
}
