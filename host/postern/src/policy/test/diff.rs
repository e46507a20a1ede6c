//! Formats a difference between an expected and an actual value.

use postern_policy::cases::Difference;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};

use crate::style::Style;
use crate::text::printable;

/// Prints both values on a line each, or as a line-by-line diff if either has several lines.
pub(super) fn format(difference: &Difference, style: Style) -> String {
    let (expected, found) = (readable(&difference.expected), readable(&difference.found));
    let what = printable(&difference.what);
    if expected.contains('\n') || found.contains('\n') {
        return format!(
            "    {what}: {} {}\n{}",
            style.error("- expected"),
            style.success("+ found"),
            lines(&expected, &found, style)
        );
    }
    format!(
        "    {what}\n      expected  {}\n      found     {}\n",
        style.success(&printable(&expected)),
        style.error(&printable(&found)),
    )
}

fn lines(expected: &str, found: &str, style: Style) -> String {
    let diff = TextDiff::from_lines(expected, found);
    let lines = diff.iter_all_changes().map(|change| {
        let value = printable(change.value().trim_end_matches('\n'));
        let line = match change.tag() {
            ChangeTag::Equal => format!("  {value}"),
            ChangeTag::Delete => style.error(&format!("- {value}")),
            ChangeTag::Insert => style.success(&format!("+ {value}")),
        };
        format!("      {line}\n")
    });
    lines.collect()
}

/// Reformats a value that the engine printed as Rust debug text. An object gets one line per member; `Some` is
/// removed.
fn readable(value: &str) -> String {
    let value = match value {
        "None" => "nothing",
        value => value
            .strip_prefix("Some(")
            .and_then(|rest| rest.strip_suffix(')'))
            .unwrap_or(value),
    };
    match serde_json::from_str(value) {
        Ok(Value::Object(members)) if !members.is_empty() => {
            let lines: Vec<_> = members
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            lines.join("\n") + "\n"
        }
        Ok(Value::Object(_)) => "none\n".to_owned(),
        Ok(Value::String(text)) => text,
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(expected: &str, found: &str) -> String {
        let difference = Difference {
            what: "headers".into(),
            expected: expected.into(),
            found: found.into(),
        };
        format(&difference, Style::stderr())
    }

    #[test]
    fn values_are_printed_without_rust_syntax() {
        assert_eq!(
            shown("Some(\"no_rule\")", "Some(\"role_missing\")"),
            "    headers\n      expected  no_rule\n      found     role_missing\n"
        );
        assert!(shown("Some(\"a\")", "None").ends_with("found     nothing\n"));
        assert!(shown("200", "403").ends_with("expected  200\n      found     403\n"));
    }

    #[test]
    fn objects_are_compared_line_by_line() {
        let shown = shown(
            r#"{"x-a": ["1"], "x-b": ["2"]}"#,
            r#"{"x-a": ["1"], "x-b": ["3"]}"#,
        );
        let lines: Vec<_> = shown.lines().map(str::trim_end).collect();
        assert_eq!(
            lines,
            [
                "    headers: - expected + found",
                "        x-a: [\"1\"]",
                "      - x-b: [\"2\"]",
                "      + x-b: [\"3\"]",
            ]
        );
        assert!(self::shown("{}", r#"{"x-a": ["1"]}"#).contains("- none\n"));
    }
}
