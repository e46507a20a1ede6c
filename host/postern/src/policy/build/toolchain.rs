//! Checks that the toolchain has the standard library of a target.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Fails, and names the fix, if there is no standard library for the target. Queries the compiler rather than rustup,
/// since the compiler does the build and may be installed without rustup.
pub(super) fn require_target(target: &str) -> Result<()> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&rustc)
        .args(["--print", "target-libdir", "--target", target])
        .output()
        .with_context(|| {
            format!(
                "cannot run {}, which is needed to build policies: install Rust (https://rustup.rs)",
                rustc.to_string_lossy()
            )
        })?;
    let folder = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && contains_core(Path::new(folder.trim())) {
        return Ok(());
    }
    bail!(
        "this Rust has no standard library for {target}: install it with\n\n    rustup target add {target}\n\n\
         or with your distribution's package for that target"
    )
}

fn contains_core(folder: &Path) -> bool {
    let Ok(files) = std::fs::read_dir(folder) else {
        return false;
    };
    files
        .flatten()
        .any(|file| file.file_name().to_string_lossy().starts_with("libcore-"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_error_of_a_missing_target_names_the_fix() {
        let error = super::require_target("wasm32-nowhere").unwrap_err().to_string();
        assert!(error.contains("rustup target add wasm32-nowhere"), "{error}");
    }
}
