//! Reads settings files.

use std::path::{Path, PathBuf};

use postern_config::ConfigErrors;

/// The maximum size of a settings file, and of files that it names, in bytes.
pub const MAX_FILE_SIZE: u64 = 16 << 20;

/// The settings cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The settings are invalid.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
}

impl SettingsError {
    /// Each error as one text.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        match self {
            Self::Invalid(errors) => errors.issues().iter().map(ToString::to_string).collect(),
            Self::Read(_) => vec![self.to_string()],
        }
    }
}

/// The text of a settings file, not parsed yet.
#[derive(Debug, Clone)]
pub struct SettingsFile {
    /// The content of the file.
    pub text: String,
    /// The directory that relative paths are relative to.
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
