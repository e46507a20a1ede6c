//! From YAML, and with it JSON, to a document.

use serde::Serialize;
use serde_json::Value;

/// One thing wrong with a file, or worth knowing about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// Where, as a path such as `rules[3].match`; empty for the whole file.
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

    /// `file:line:column: path: message`, without what is not known.
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

/// Reads a document. JSON is read as the YAML it is, so that a key that stands twice is an error there too.
pub(crate) fn parse(text: &str) -> Result<Value, Problem> {
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
        Problem {
            path: String::new(),
            line: location.map(|l| l.line()),
            column: location.map(|l| l.column()),
            message: without_location(&error.without_snippet().to_string()),
        }
    })?;
    if value.is_null() {
        return Err(Problem::at("", "is empty; it needs \"rules\" at least"));
    }
    Ok(value)
}

/// The place is told once, in front.
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
            assert_eq!(parse(text).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn the_place_of_a_syntax_error() {
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
    fn a_syntax_error_shows_nothing_of_the_file() {
        let problem = parse("rules: []\nsecret: 'hunter2\n").unwrap_err();
        assert!(!problem.message.contains("hunter2"), "{problem:?}");
    }
}
