//! Parses the document of a `gate.yaml`, and describes problems in it.

use postern_config::yaml;
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

/// Parses the document of a `gate.yaml`.
pub(crate) fn parse(text: &str) -> Result<Value, Problem> {
    yaml::parse(text, "\"rules\"").map_err(|error| Problem {
        path: String::new(),
        line: error.line,
        column: error.column,
        message: error.message,
    })
}
