//! Parses `host.yaml`: first against its schema, then its values.

use std::path::Path;

use postern_config::{ConfigErrors, yaml};
use postern_serve::{SettingsError, SettingsFile};

use super::{Settings, validate};

/// What modules read, which may hold `null`.
const MODULES_OWN: &[&[&str]] = &[&["policies", "entries", "*", "config"]];
/// The fields that an empty file lacks.
const REQUIRED: &str = "\"listen\", and \"policies\", \"signing\" or \"audit\"";

impl Settings {
    /// Reads the settings from a file. Secrets are looked up with `variable`.
    ///
    /// # Errors
    /// All errors in them.
    pub fn read(path: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let file = SettingsFile::read(path)?;
        Ok(Self::parse(&file.text, &file.directory, variable)?)
    }

    /// Parses settings. Relative paths are relative to `directory`.
    ///
    /// # Errors
    /// All errors in them.
    pub fn parse(
        text: &str,
        directory: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigErrors> {
        let written = yaml::from_str(text, REQUIRED, MODULES_OWN)?;
        validate::settings(written, directory, variable)
    }
}
