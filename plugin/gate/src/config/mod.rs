//! What people write in `gate.yaml`: plain data, checked for shape here and for sense when it is compiled.
//!
//! Unknown fields are errors, and every error is reported, not the first.

mod audit_mode;
mod entries;
mod error;
mod model;
pub(crate) mod scalar;

pub use audit_mode::AuditMode;
pub use entries::Entries;
pub use error::{ConfigErrors, Issue};
pub use model::*;
pub use scalar::{ByteSize, Digest, HeaderName, HumanDuration, Narrowing, Timestamp};

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
    let mut errors = ConfigErrors::default();
    nulls(&value, "", &mut errors);
    errors.or_ok(())?;
    deserr::deserialize(value)
}

/// A field without a value is not one that was left out: what should have filled it in did not, and the rule would be
/// wider than it reads. Key sets are others' documents.
fn nulls(value: &serde_json::Value, path: &str, errors: &mut ConfigErrors) {
    use serde_json::Value;
    match value {
        Value::Null if !path.is_empty() => {
            errors.add(path, "has no value; give it one, or leave it out");
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                nulls(item, &format!("{path}[{index}]"), errors);
            }
        }
        Value::Object(members) => {
            for (name, member) in members.iter().filter(|(name, _)| *name != "inline") {
                let dot = if path.is_empty() { "" } else { "." };
                nulls(member, &format!("{path}{dot}{name}"), errors);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
