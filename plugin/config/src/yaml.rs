//! YAML, and with it JSON, read into a document.

use std::fmt;

use deserr::Deserr;
use serde_json::Value;

use crate::ConfigErrors;

/// Why a text is not a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    /// What is wrong. Shows nothing of the text: a secret in the wrong place would be shown.
    pub message: String,
    /// The line, counted from 1, if the error has a place.
    pub line: Option<u64>,
    /// The column, counted from 1, if the error has a place.
    pub column: Option<u64>,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, " at line {line}, column {column}"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for YamlError {}

/// Reads a document. JSON is read as the YAML it is, and a key that stands twice is an error in both.
///
/// `needs` completes the error for an empty document, "is empty; it needs ...".
///
/// # Errors
/// If the text is not YAML, names a key twice, or is empty.
pub fn parse(text: &str, needs: &str) -> Result<Value, YamlError> {
    // No snippets: a secret in the wrong place would be shown. `yes` and `on` are text, as other readers have them.
    // Each node takes at least a byte of the text, so that its length bounds them: the parser's own bounds are for less
    // than a filter takes. What aliases repeat has bounds of its own.
    let bytes = text.len();
    let options = serde_saphyr::options! {
        with_snippet: false,
        strict_booleans: true,
        budget: serde_saphyr::budget! {
            max_nodes: bytes.max(250_000),
            max_events: bytes.saturating_mul(2).max(1_000_000),
            max_total_scalar_bytes: bytes.max(64 << 20),
        },
    };
    let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let location = error.location();
        YamlError {
            message: without_location(&error.without_snippet().to_string()),
            line: location.map(|place| place.line()),
            column: location.map(|place| place.column()),
        }
    })?;
    if value.is_null() {
        return Err(YamlError {
            message: format!("is empty; it needs {needs}"),
            line: None,
            column: None,
        });
    }
    Ok(value)
}

/// Reads a document into the types of a schema. `needs` as in [`parse`].
///
/// # Errors
/// As [`parse`], else every error of shape.
pub fn from_str<T: Deserr<ConfigErrors>>(text: &str, needs: &str) -> Result<T, ConfigErrors> {
    let document = parse(text, needs).map_err(|error| ConfigErrors::document(error.to_string()))?;
    deserr::deserialize(document)
}

/// The message alone: the place stands beside it.
fn without_location(message: &str) -> String {
    let first = message.lines().next().unwrap_or(message);
    first
        .split_once(" at line ")
        .map_or(first, |(before, _)| before)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Result<Value, YamlError> {
        parse(text, "\"rules\" at least")
    }

    #[test]
    fn json_is_read_too() {
        for (text, value) in [
            ("a: [1, {b: c}]", json!({"a": [1, {"b": "c"}]})),
            (
                "{\n\t\"a\": \"x\\/\\u00e9\",\n\t\"b\": null\n}\n",
                json!({"a": "x/é", "b": null}),
            ),
            ("[\"\\ud83d\\ude00\", true]", json!(["😀", true])),
            ("a: yes", json!({"a": "yes"})),
        ] {
            assert_eq!(read(text).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn the_place_of_a_syntax_error() {
        for (text, line) in [
            ("a: [1\nb: 2\n", 2),
            ("a: 1\na: 2\n", 2),
            ("{\"a\": 1, \"a\": 2}", 1),
        ] {
            let error = read(text).unwrap_err();
            assert_eq!(error.line, Some(line), "{error:?}");
            assert!(
                error.column.is_some() && !error.message.contains("at line"),
                "{error:?}"
            );
            assert_eq!(error.to_string().matches(" at line ").count(), 1, "{error}");
        }
        assert!(read("# nothing\n").unwrap_err().message.contains("empty"));
    }

    #[test]
    fn a_syntax_error_shows_nothing_of_the_file() {
        let error = read("rules: []\nsecret: 'hunter2\n").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error:?}");
    }
}
