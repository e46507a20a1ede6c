//! The report of `postern check`, as text or JSON.

use anyhow::Result;
use postern_gate::config::Config;
use serde::Serialize;

use crate::document::Problem;
use crate::load::Invalid;
use crate::output::{Exit, Output, json};
use crate::style::Style;
use crate::text::{counted, printable};

#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    pub(super) file: &'a str,
    pub(super) valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) summary: Option<Summary>,
    pub(super) errors: &'a [Problem],
    pub(super) warnings: &'a [Problem],
    pub(super) hints: &'a [String],
}

/// The number of entries of each kind.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    rules: usize,
    issuers: usize,
    api_keys: usize,
    signatures: usize,
    limits: usize,
}

impl Summary {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            rules: config.rules.len(),
            issuers: config.issuers.len(),
            api_keys: config.api_keys.values().map(|set| set.keys.len()).sum(),
            signatures: config.signatures.len(),
            limits: config.limits.len(),
        }
    }

    fn text(&self) -> String {
        let parts = [
            counted(self.rules, "rule", "rules"),
            counted(self.issuers, "issuer", "issuers"),
            counted(self.api_keys, "API key", "API keys"),
            counted(self.signatures, "signature scheme", "signature schemes"),
            counted(self.limits, "limit", "limits"),
        ];
        parts.join(", ")
    }
}

impl Report<'_> {
    pub(super) fn valid_text(&self, style: Style) -> String {
        let summary = self.summary.as_ref().map(Summary::text).unwrap_or_default();
        let mut text = format!(
            "{}: {}: {summary}\n",
            printable(self.file),
            style.success("valid")
        );
        for hint in self.hints {
            text.push_str(&format!("{} {}\n", style.bold("hint:"), printable(hint)));
        }
        text
    }

    pub(super) fn warnings_text(&self, style: Style) -> String {
        lines(&style.warning("warning:"), self.file, self.warnings)
    }
}

/// The report of a configuration that cannot be compiled.
pub(crate) fn invalid(file: &str, invalid: &Invalid, as_json: bool) -> Result<Output> {
    if as_json {
        let report = Report {
            file,
            valid: false,
            summary: None,
            errors: &invalid.errors,
            warnings: &[],
            hints: &[],
        };
        return Ok(Output {
            out: json(&report)?,
            err: String::new(),
            exit: Exit::Invalid,
        });
    }
    let style = Style::stderr();
    let mut err = lines(&style.error("error:"), file, &invalid.errors);
    let count = counted(invalid.errors.len(), "error", "errors");
    match invalid.unchecked {
        Some(unchecked) => err.push_str(&format!("{count}; {unchecked}\n")),
        None => err.push_str(&format!("{count}\n")),
    }
    Ok(Output {
        out: String::new(),
        err,
        exit: Exit::Invalid,
    })
}

fn lines(head: &str, file: &str, problems: &[Problem]) -> String {
    let lines = problems
        .iter()
        .map(|problem| format!("{head} {}\n", printable(&problem.in_file(file))));
    lines.collect()
}
