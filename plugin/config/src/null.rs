//! Rejection of fields without a value.

use serde_json::Value;

use crate::ConfigErrors;

/// Rejects fields without a value (`null`), at any depth. Such a field was not left out on purpose: a template failed
/// to fill it in, and the configuration would allow more than it seems to.
///
/// `except` lists the members that are not searched, because they hold documents in other formats: each as the names
/// on the way to it, where `*` stands for any name.
///
/// # Errors
/// One error for each field without a value.
pub fn reject_nulls(document: &Value, except: &[&[&str]]) -> Result<(), ConfigErrors> {
    let mut errors = ConfigErrors::default();
    search(document, "", &mut Vec::new(), except, &mut errors);
    errors.into_result(())
}

/// `path` is the place in messages, and `names` the same place without indices.
fn search<'a>(
    value: &'a Value,
    path: &str,
    names: &mut Vec<&'a str>,
    except: &[&[&str]],
    errors: &mut ConfigErrors,
) {
    if except.iter().any(|pattern| matches(names, pattern)) {
        return;
    }
    match value {
        Value::Null if !path.is_empty() => {
            errors.add(path, "has no value; give it one, or leave it out");
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                search(item, &format!("{path}[{index}]"), names, except, errors);
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let dot = if path.is_empty() { "" } else { "." };
                names.push(name);
                search(member, &format!("{path}{dot}{name}"), names, except, errors);
                names.pop();
            }
        }
        _ => {}
    }
}

fn matches(names: &[&str], pattern: &[&str]) -> bool {
    names.len() == pattern.len()
        && names
            .iter()
            .zip(pattern)
            .all(|(name, wanted)| *wanted == "*" || name == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_without_a_value_is_reported_with_its_path() {
        let document = serde_json::json!({
            "a": null,
            "b": [1, {"c": null}],
            "config": {"d": null},
            "entries": {"one": {"config": {"d": null}}, "config": {"d": null}},
            "e": false,
        });
        let errors = reject_nulls(&document, &[&["entries", "*", "config"]]).unwrap_err();
        let paths: Vec<_> = errors.issues().iter().map(|issue| issue.path.as_str()).collect();
        assert_eq!(paths, ["a", "b[1].c", "config.d", "entries.config.d"]);
    }
}
