//! Where the built filter is.

use std::path::PathBuf;

use crate::paths;

/// There is no filter to load.
#[derive(Debug, thiserror::Error)]
#[error("no filter at {path}; run `cargo xtask build`, or set POSTERN_WASM to a postern.wasm")]
pub struct NotBuilt {
    path: String,
}

/// Where `cargo xtask build` puts the filter.
#[must_use]
pub fn built() -> PathBuf {
    paths::target().join("postern").join("postern.wasm")
}

/// The filter to load: `POSTERN_WASM`, else the one that `cargo xtask build` made.
///
/// # Errors
///
/// When the file is not there.
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
