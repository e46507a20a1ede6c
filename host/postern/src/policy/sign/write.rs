//! Replaces a file atomically: a reader sees the old version or the new one.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};

/// Writes the text to a new file in the same folder and renames it over the old one.
pub(super) fn replace(file: &Path, text: &str) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut builder = tempfile::Builder::new();
        // Hosts read it as another user, and it holds no secret.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
        let mut new = builder.tempfile_in(super::folder(file))?;
        new.write_all(text.as_bytes())?;
        new.as_file().sync_all()?;
        new.persist(file)?;
        Ok(())
    };
    write().with_context(|| format!("cannot write {}", file.display()))
}
