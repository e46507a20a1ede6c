//! What people write in `gate.yaml`: plain data, checked for shape here and for sense when it is compiled.
//!
//! Unknown fields are errors, and every error is reported, not the first.

mod entries;
mod error;
mod model;
pub(crate) mod scalar;
mod telling;

pub use entries::Entries;
pub use error::{ConfigErrors, Issue};
pub use model::*;
pub use scalar::{Digest, HeaderName, Instant, Size, Span};
pub use telling::Telling;

pub(crate) use error::suggest;

use crate::json::Unique;

/// Reads a configuration from the JSON that Envoy hands to the plugin.
///
/// # Errors
/// Every error of shape: unknown and missing fields, wrong kinds, scalars that do not parse.
pub fn from_json(text: &[u8]) -> Result<Config, ConfigErrors> {
    let Unique(value) = serde_json::from_slice(text).map_err(|e| {
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
    deserr::deserialize(value)
}

#[cfg(test)]
mod tests;
