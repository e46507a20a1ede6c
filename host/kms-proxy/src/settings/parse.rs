//! Parses `kms-proxy.yaml`: first against its schema, then its values.

use std::path::Path;

use postern_config::{ConfigErrors, yaml};
use postern_serve::{SettingsError, SettingsFile};

use super::{Mode, Settings, Token, validate};

/// The fields that an empty file lacks.
const REQUIRED: &str = "\"listen\", \"token\", \"signers\" and \"current\"";

impl Settings {
    /// Reads the settings from a file. Secrets are looked up with `variable`.
    ///
    /// # Errors
    /// All errors in them.
    pub fn read(
        path: &Path,
        mode: Mode,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let file = SettingsFile::read(path)?;
        Ok(Self::parse(&file.text, &file.directory, mode, variable)?)
    }

    /// Parses settings. Relative paths are relative to `directory`.
    ///
    /// # Errors
    /// All errors in them.
    pub fn parse(
        text: &str,
        directory: &Path,
        mode: Mode,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigErrors> {
        validate::settings(yaml::from_str(text, REQUIRED, &[])?, directory, mode, variable)
    }
}

impl Token {
    /// Reads only the token settings from a file, and none of the secrets that they do not need.
    ///
    /// # Errors
    /// All errors in them.
    pub fn read(path: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let file = SettingsFile::read(path)?;
        let written = yaml::from_str(&file.text, REQUIRED, &[])?;
        Ok(validate::token_only(written, &file.directory, variable)?)
    }
}
