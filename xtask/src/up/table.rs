//! The demo's results as a table.

use std::io::IsTerminal;

use super::calls::{Call, CallResult};

const HEAD: [&str; 6] = ["request", "expected", "status", "code", "ok?", "rate limit"];
const GREEN: &str = "\u{1b}[32m";
const RED: &str = "\u{1b}[31m";
const PLAIN: &str = "\u{1b}[0m";

/// Colours only on a terminal, unless NO_COLOR is set (no-color.org).
pub(super) fn coloured() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

pub(super) fn render(rows: &[(Call, CallResult)], coloured: bool) -> String {
    let cells: Vec<[String; 6]> = rows.iter().map(|(call, result)| cells(call, result)).collect();
    let mut widths = HEAD.map(str::len);
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let mut text = line(
        HEAD.iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}")),
    );
    text.push_str(&line(widths.iter().map(|width| "-".repeat(*width))));
    for ((call, result), row) in rows.iter().zip(&cells) {
        let colour = if call.expected.matches(result) { GREEN } else { RED };
        let padded = row.iter().zip(widths).enumerate().map(|(column, (cell, width))| {
            let cell = format!("{cell:<width$}");
            // This cell alone: a whole line in colour is hard to read.
            if coloured && HEAD.get(column) == Some(&"ok?") {
                format!("{colour}{cell}{PLAIN}")
            } else {
                cell
            }
        });
        text.push_str(&line(padded));
    }
    text
}

fn line(cells: impl Iterator<Item = String>) -> String {
    let line = cells.collect::<Vec<_>>().join("  ");
    format!("{}\n", line.trim_end())
}

fn cells(call: &Call, result: &CallResult) -> [String; 6] {
    let verdict = if call.expected.matches(result) {
        "yes"
    } else {
        "NO"
    };
    let retry = result
        .retry_after
        .as_ref()
        .map(|seconds| format!("Retry-After: {seconds}"));
    let limit = result
        .rate_limit
        .iter()
        .cloned()
        .chain(retry)
        .collect::<Vec<_>>()
        .join("  ");
    [
        call.name.clone(),
        call.expected.status.to_string(),
        result.status.to_string(),
        result.code.clone().unwrap_or_else(|| "-".to_owned()),
        verdict.to_owned(),
        limit,
    ]
}

#[cfg(test)]
mod tests {
    use super::super::calls::Expected;
    use super::*;

    #[test]
    fn columns_line_up_and_colour_is_only_for_terminals() {
        let row = |name: &str, status| {
            let call = Call::get(name, "/", Expected::status(200));
            (
                call,
                CallResult {
                    status,
                    code: None,
                    rate_limit: None,
                    retry_after: None,
                },
            )
        };
        let rows = [row("a", 200), row("something long", 500)];
        assert_eq!(
            render(&rows, false),
            "request         expected  status  code  ok?  rate limit\n\
             --------------  --------  ------  ----  ---  ----------\n\
             a               200       200     -     yes\n\
             something long  200       500     -     NO\n"
        );
        let coloured = render(&rows, true);
        assert!(coloured.contains("\u{1b}[32myes\u{1b}[0m") && coloured.contains("\u{1b}[31mNO \u{1b}[0m"));
    }
}
