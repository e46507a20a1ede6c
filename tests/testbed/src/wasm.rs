//! The built filter module.

use std::path::PathBuf;

use crate::paths;

/// The filter module does not exist.
#[derive(Debug, thiserror::Error)]
#[error("no filter at {path}; run `cargo xtask build`, or set POSTERN_WASM to a postern.wasm")]
pub struct NotBuilt {
    path: String,
}

/// The path that `cargo xtask build` writes the filter to.
#[must_use]
pub fn built() -> PathBuf {
    paths::target().join("postern").join("postern.wasm")
}

/// The filter to load: `POSTERN_WASM`, else the output of `cargo xtask build`.
///
/// # Errors
///
/// When the file does not exist.
pub fn filter() -> Result<PathBuf, NotBuilt> {
    let path = match std::env::var_os("POSTERN_WASM").filter(|value| !value.is_empty()) {
        Some(set) => PathBuf::from(set),
        None => built(),
    };
    if path.is_file() {
        Ok(path)
    } else {
        Err(NotBuilt {
            path: path.display().to_string(),
        })
    }
}
