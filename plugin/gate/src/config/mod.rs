//! The configuration, `gate.yaml`, as plain data. Its form is checked here, its meaning when it is compiled.
//!
//! Unknown fields are errors, and all errors are reported, not only the first.

mod audit_mode;
mod model;

use postern_config::{ConfigErrors, UNKNOWN_TAG, json, reject_nulls};

pub use audit_mode::AuditMode;
pub use model::*;

/// Parses a configuration from the JSON that Envoy passes to the plugin.
///
/// # Errors
/// Every error of form: unknown and missing fields, wrong types, invalid scalars.
pub fn from_json(text: &[u8]) -> Result<Config, ConfigErrors> {
    let value = json::document(text).map_err(|e| {
        ConfigErrors::document(format!(
            "the plugin's configuration is not JSON: {e}; give it as a StringValue that holds JSON, as `postern render` prints it"
        ))
    })?;
    from_value(value)
}

/// Reads a configuration from a parsed JSON document.
///
/// # Errors
/// As [`from_json`].
pub fn from_value(value: serde_json::Value) -> Result<Config, ConfigErrors> {
    // A key set may hold `null`.
    reject_nulls(&value, &[&["issuers", "*", "jwks", "inline"]])?;
    deserr::deserialize(value).map_err(|errors: ConfigErrors| {
        // `scheme` is the only tag in the schema.
        errors.replace_message(UNKNOWN_TAG, "unknown \"scheme\": the values are github, keyed")
    })
}

#[cfg(test)]
mod tests;
