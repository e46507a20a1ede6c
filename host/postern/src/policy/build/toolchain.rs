//! The standard library of the target.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Fails with the mend if there is no standard library for the target. Asks the compiler, not rustup: that is what
/// counts, and it works without rustup.
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
    fn a_missing_target_is_told_with_its_mend() {
        let error = super::require_target("wasm32-nowhere").unwrap_err().to_string();
        assert!(error.contains("rustup target add wasm32-nowhere"), "{error}");
    }
}
