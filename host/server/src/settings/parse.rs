//! Parses `host.yaml`: first against its schema, then its values.

use std::path::Path;

use postern_config::{ConfigErrors, yaml};
use postern_serve::{SettingsError, SettingsFile};

use super::{Settings, validate};

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
        validate::settings(yaml::from_str(text, REQUIRED)?, directory, variable)
    }
}
