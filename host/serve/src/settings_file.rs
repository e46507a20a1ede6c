//! Files of settings.

use std::path::{Path, PathBuf};

use postern_config::ConfigErrors;

/// The largest file of settings, or one that they name, in bytes.
pub const MAX_FILE_SIZE: u64 = 16 << 20;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// What is wrong with it.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
}

impl SettingsError {
    /// Each error by itself.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        match self {
            Self::Invalid(errors) => errors.issues().iter().map(ToString::to_string).collect(),
            Self::Read(_) => vec![self.to_string()],
        }
    }
}

/// A file of settings, read but not parsed.
#[derive(Debug, Clone)]
pub struct SettingsFile {
    /// What it holds.
    pub text: String,
    /// Where the relative paths in it begin.
    pub directory: PathBuf,
}

impl SettingsFile {
    /// Reads a regular file of at most [`MAX_FILE_SIZE`] bytes.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let path = std::path::absolute(path)?;
        Ok(Self {
            text: postern_files::read_to_string(&path, MAX_FILE_SIZE)?,
            directory: path.parent().unwrap_or(Path::new("/")).to_owned(),
        })
    }
}
