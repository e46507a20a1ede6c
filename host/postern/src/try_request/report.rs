//! The report of `postern try`, as text or JSON.

use anyhow::Result;
use serde::Serialize;

use super::effect::Effect;
use super::explain::{Check, Explanation};
use super::request::OwnedRequest;
use crate::output;
use crate::style::Style;
use crate::text::printable;

#[derive(Serialize)]
struct Document<'a> {
    /// `denied` if any attempt was denied, otherwise the decision of the first.
    decision: &'static str,
    attempts: &'a [Explanation],
}

pub(super) fn json(explanations: &[Explanation]) -> Result<String> {
    let denied = explanations.iter().find(|explanation| !explanation.allowed());
    let reported = denied.or(explanations.first());
    output::json(&Document {
        decision: reported.map_or("allowed", |explanation| explanation.decision),
        attempts: explanations,
    })
}

/// One line per attempt if there are several, and the last one in full.
pub(super) fn text(request: &OwnedRequest, explanations: &[Explanation]) -> String {
    let style = Style::stdout();
    let head = printable(&format!("{} {}", request.method, request.target.path_only()));
    let mut text = format!("{}\n\n", style.bold(&head));
    if explanations.len() > 1 {
        for (number, explanation) in (1..).zip(explanations) {
            text.push_str(&line(number, explanation, style));
        }
        text.push_str(&format!("\n{}\n\n", style.bold("The last attempt:")));
    }
    if let Some(last) = explanations.last() {
        text.push_str(&full(last, style));
    }
    text
}

fn line(number: usize, explanation: &Explanation, style: Style) -> String {
    let limits: Vec<&str> = explanation
        .checks
        .iter()
        .filter(|check| check.check == "limit")
        .map(|check| check.detail.as_str())
        .collect();
    let why = explanation.reason.filter(|_| limits.is_empty());
    let detail = why.map_or_else(|| limits.join(", "), str::to_owned);
    let line = format!(
        "{number:>5}  {}  {}",
        style_decision(explanation, style),
        printable(&detail)
    );
    format!("{}\n", line.trim_end())
}

fn style_decision(explanation: &Explanation, style: Style) -> String {
    if explanation.allowed() {
        style.success(explanation.decision)
    } else {
        style.error(&format!("{:<7}", explanation.decision))
    }
}

fn full(explanation: &Explanation, style: Style) -> String {
    let mut text: String = explanation
        .checks
        .iter()
        .map(|check| check_line(check, style))
        .collect();
    text.push('\n');
    text.push_str(&effect(explanation.decision, &explanation.effect, style));
    for hint in &explanation.hints {
        text.push_str(&format!("\n{} {}\n", style.bold("hint:"), printable(hint)));
    }
    text
}

fn check_line(check: &Check, style: Style) -> String {
    let mark = if check.passed {
        style.success("ok")
    } else {
        style.error("no")
    };
    format!("  {mark}  {:<13}  {}\n", check.check, printable(&check.detail))
}

fn effect(decision: &str, effect: &Effect, style: Style) -> String {
    match effect {
        Effect::Response {
            status,
            title,
            headers,
            raw,
            details,
            ..
        } => {
            let denied = style.error("Denied.");
            let headers = fields("", headers);
            format!(
                "{denied} The client gets:\n\nHTTP/1.1 {status} {title}\n{headers}\n{raw}\n\n\
                 Envoy's access log shows (%RESPONSE_CODE_DETAILS%): {}\n",
                printable(details)
            )
        }
        Effect::Admitted {
            request_headers_set,
            request_headers_removed,
            response_headers_added,
        } => {
            let removed: Vec<(String, String)> = request_headers_removed
                .iter()
                .map(|name| (name.clone(), String::new()))
                .collect();
            let parts = [
                ("Set for the upstream", request_headers_set),
                ("Removed from what the client sent", &removed),
                ("Added to the response", response_headers_added),
            ];
            let parts = parts.iter().filter(|(_, headers)| !headers.is_empty());
            let parts: String = parts
                .map(|(title, headers)| {
                    format!(
                        "\n{}\n{}",
                        style.bold(&format!("{title}:")),
                        fields("  ", headers)
                    )
                })
                .collect();
            let (first, rest) = decision.split_at_checked(1).unwrap_or_default();
            let decision = format!("{}{rest}.", first.to_ascii_uppercase());
            format!(
                "{} The upstream gets the request.\n{parts}",
                style.success(&decision)
            )
        }
    }
}

fn fields(indent: &str, headers: &[(String, String)]) -> String {
    let lines = headers.iter().map(|(name, value)| {
        let colon = if value.is_empty() { "" } else { ": " };
        format!("{indent}{}\n", printable(&format!("{name}{colon}{value}")))
    });
    lines.collect()
}
