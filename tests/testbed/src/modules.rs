//! The policy modules that ship, as built by `cargo xtask build`.

use std::path::PathBuf;

use crate::paths;

/// The module does not exist.
#[derive(Debug, thiserror::Error)]
#[error(
    "no policy module at {path}; run `cargo xtask build`, or set POSTERN_POLICIES to a folder that contains it"
)]
pub struct NotBuilt {
    path: String,
}

/// The folder that `cargo xtask build` writes the shipped modules to.
#[must_use]
pub fn built() -> PathBuf {
    paths::target().join("postern").join("policies")
}

/// The path of a shipped module (`rbac`, `tenant` and so on): in `POSTERN_POLICIES`, else in the output of
/// `cargo xtask build`.
///
/// # Errors
///
/// When the file does not exist.
pub fn shipped(name: &str) -> Result<PathBuf, NotBuilt> {
    let folder = match std::env::var_os("POSTERN_POLICIES").filter(|value| !value.is_empty()) {
        Some(set) => PathBuf::from(set),
        None => built(),
    };
    let path = folder.join(format!("{name}.wasm"));
    if path.is_file() {
        Ok(path)
    } else {
        Err(NotBuilt {
            path: path.display().to_string(),
        })
    }
}
