//! Parses YAML and JSON documents.

use std::fmt;

use deserr::Deserr;
use serde_json::Value;
use serde_saphyr::UserMessageFormatter;

use crate::{ConfigErrors, reject_nulls};

/// Why a document cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct YamlError {
    /// The error, without any part of the text: it could be a misplaced secret.
    pub message: String,
    /// The line, counted from 1, if the error has a location.
    pub line: Option<u64>,
    /// The column, counted from 1, if the error has a location.
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

/// Parses a document. JSON is parsed as YAML, of which it is a subset, so that a duplicate key is an error in both.
///
/// `required` completes the error for an empty document, "is empty; at least ... must be set".
///
/// # Errors
/// If the text is not YAML, has a duplicate key, or is empty.
pub fn parse(text: &str, required: &str) -> Result<Value, YamlError> {
    // No snippets: they could print a misplaced secret. `yes` and `on` are strings, as in other parsers.
    // Each node takes at least one byte, so the length of the text bounds their number; the parser's default budget is
    // below what the filter accepts. The expansion of aliases keeps its own bounds.
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
            message: without_location(
                &error
                    .without_snippet()
                    .render_with_formatter(&UserMessageFormatter),
            ),
            line: location.map(|location| location.line()),
            column: location.map(|location| location.column()),
        }
    })?;
    if value.is_null() {
        return Err(YamlError {
            message: format!("is empty; at least {required} must be set"),
            line: None,
            column: None,
        });
    }
    Ok(value)
}

/// Parses a document into the types of a schema. `required` as in [`parse`], `except` as in [`reject_nulls`].
///
/// # Errors
/// As [`parse`], otherwise every field without a value, otherwise every value that does not match the schema.
pub fn from_str<T: Deserr<ConfigErrors>>(
    text: &str,
    required: &str,
    except: &[&[&str]],
) -> Result<T, ConfigErrors> {
    let document = parse(text, required).map_err(|error| ConfigErrors::document(error.to_string()))?;
    reject_nulls(&document, except)?;
    deserr::deserialize(document)
}

/// Drops the location from the parser's message: it has its own fields.
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
        parse(text, "\"rules\"")
    }

    #[test]
    fn json_is_parsed_as_yaml() {
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
    fn a_syntax_error_carries_its_location() {
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
    fn a_syntax_error_does_not_print_the_text() {
        let error = read("rules: []\nsecret: 'hunter2\n").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error:?}");
    }
}
