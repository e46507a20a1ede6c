//! Rejection of fields without a value.

use serde_json::Value;

use crate::ConfigErrors;

/// Rejects fields without a value (`null`), at any depth. Such a field was not left out on purpose: a template failed
/// to fill it in, and the configuration would allow more than it seems to. Members named `except` are not searched:
/// they hold documents in other formats.
///
/// # Errors
/// One error for each field without a value.
pub fn reject_nulls(document: &Value, except: &str) -> Result<(), ConfigErrors> {
    let mut errors = ConfigErrors::default();
    search(document, "", except, &mut errors);
    errors.into_result(())
}

fn search(value: &Value, path: &str, except: &str, errors: &mut ConfigErrors) {
    match value {
        Value::Null if !path.is_empty() => {
            errors.add(path, "has no value; give it one, or leave it out");
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                search(item, &format!("{path}[{index}]"), except, errors);
            }
        }
        Value::Object(members) => {
            for (name, member) in members.iter().filter(|(name, _)| *name != except) {
                let dot = if path.is_empty() { "" } else { "." };
                search(member, &format!("{path}{dot}{name}"), except, errors);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_without_a_value_is_reported_with_its_path() {
        let document =
            serde_json::json!({"a": null, "b": [1, {"c": null}], "inline": {"d": null}, "e": false});
        let errors = reject_nulls(&document, "inline").unwrap_err();
        let paths: Vec<_> = errors.issues().iter().map(|issue| issue.path.as_str()).collect();
        assert_eq!(paths, ["a", "b[1].c"]);
    }
}
