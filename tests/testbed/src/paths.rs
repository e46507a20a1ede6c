//! Folders of the workspace.

use std::path::{Path, PathBuf};

/// The root folder of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().nth(2).unwrap_or(package).to_path_buf()
}

/// Cargo's target folder: `CARGO_TARGET_DIR`, else `target` in the workspace.
///
/// A relative `CARGO_TARGET_DIR` is resolved against the workspace, because tests run in the folder of their package.
#[must_use]
pub fn target() -> PathBuf {
    let configured = std::env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty());
    workspace().join(configured.map_or_else(|| PathBuf::from("target"), PathBuf::from))
}
