//! What people write in `gate.yaml`: plain data, checked for shape here and for sense when it is compiled.
//!
//! Unknown fields are errors, and every error is reported, not the first.

mod model;
mod telling;

use postern_config::{ConfigErrors, UNKNOWN_TAG, json, refuse_nulls};

pub use model::*;
pub use telling::Telling;

/// Reads a configuration from the JSON that Envoy hands to the plugin.
///
/// # Errors
/// Every error of shape: unknown and missing fields, wrong kinds, scalars that do not parse.
pub fn from_json(text: &[u8]) -> Result<Config, ConfigErrors> {
    let value = json::document(text).map_err(|e| {
        ConfigErrors::whole(format!(
            "the plugin's configuration is not JSON: {e}; give it as a StringValue that holds JSON, as `postern render` prints it"
        ))
    })?;
    from_value(value)
}

/// Reads a configuration from a parsed document.
///
/// # Errors
/// As [`from_json`].
pub fn from_value(value: serde_json::Value) -> Result<Config, ConfigErrors> {
    // Key sets are documents of others.
    refuse_nulls(&value, "inline")?;
    deserr::deserialize(value).map_err(|errors: ConfigErrors| {
        // `scheme` is the only tag.
        errors.reworded(UNKNOWN_TAG, "unknown \"scheme\": the values are github, keyed")
    })
}

#[cfg(test)]
mod tests;
