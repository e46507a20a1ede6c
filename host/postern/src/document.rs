//! Parses YAML and JSON documents, and describes problems in them.

use serde::Serialize;
use serde_json::Value;

/// An error or a warning about a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// The location, as a path such as `rules[3].match`; empty for the whole file.
    pub(crate) path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) column: Option<u64>,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            line: None,
            column: None,
            message: message.into(),
        }
    }

    /// `file:line:column: path: message`; unknown parts are left out.
    pub(crate) fn in_file(&self, file: &str) -> String {
        let mut text = file.to_owned();
        for number in self.line.iter().chain(&self.column) {
            text.push_str(&format!(":{number}"));
        }
        text.push_str(": ");
        if !self.path.is_empty() {
            text.push_str(&format!("{}: ", self.path));
        }
        text + &self.message
    }
}

/// Parses a document. JSON is parsed as YAML, of which it is a subset, so that a duplicate key is an error in both.
pub(crate) fn parse(text: &str) -> Result<Value, Problem> {
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
        Problem {
            path: String::new(),
            line: location.map(|l| l.line()),
            column: location.map(|l| l.column()),
            message: without_location(&error.without_snippet().to_string()),
        }
    })?;
    if value.is_null() {
        return Err(Problem::at("", "is empty; at least \"rules\" is required"));
    }
    Ok(value)
}

/// Drops the location from the parser's message: [`Problem::in_file`] prints it in front.
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
            assert_eq!(parse(text).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn a_syntax_error_carries_its_location() {
        for (text, line) in [
            ("a: [1\nb: 2\n", 2),
            ("a: 1\na: 2\n", 2),
            ("{\"a\": 1, \"a\": 2}", 1),
        ] {
            let problem = parse(text).unwrap_err();
            assert_eq!(problem.line, Some(line), "{problem:?}");
            assert!(
                problem.column.is_some() && !problem.message.contains("at line"),
                "{problem:?}"
            );
        }
        assert!(parse("# nothing\n").unwrap_err().message.contains("empty"));
    }

    #[test]
    fn a_syntax_error_does_not_print_the_file() {
        let problem = parse("rules: []\nsecret: 'hunter2\n").unwrap_err();
        assert!(!problem.message.contains("hunter2"), "{problem:?}");
    }
}
