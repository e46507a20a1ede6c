//! Where this workspace keeps what it builds and installs.

use std::path::{Path, PathBuf};

/// The folder of the workspace's `Cargo.toml`.
#[must_use]
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Cargo's target folder: `CARGO_TARGET_DIR`, else `target` in the workspace.
///
/// A relative `CARGO_TARGET_DIR` is taken from the workspace, because tests run in their package's folder.
#[must_use]
pub fn target() -> PathBuf {
    let configured = std::env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty());
    workspace().join(configured.map_or_else(|| PathBuf::from("target"), PathBuf::from))
}
