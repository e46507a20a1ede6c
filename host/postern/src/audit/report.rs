//! The report of a verification, as text or JSON.

use std::time::SystemTime;

use anyhow::Result;
use postern_audit::Time;
use postern_audit::export::Header;
use postern_audit::verify::{Problem, Report, Requirements, Unproven, Verdict, Warning};
use serde::Serialize;

use super::Format;
use crate::output::{Exit, Output, json};
use crate::style::Style;
use crate::text::{counted, printable};

#[derive(Serialize)]
struct Document<'a> {
    whole: bool,
    verdict: Verdict,
    proven: Option<u64>,
    unproven: &'a [Unproven],
    #[serde(flatten)]
    report: &'a Report,
    uncovered: u64,
}

/// The maximum number of entries of a kind in the text.
const MAX_LISTED: usize = 10;

pub(super) fn output(
    report: &Report,
    header: Option<&Header>,
    requirements: Requirements,
    format: Format,
) -> Result<Output> {
    let now = Time::of(SystemTime::now());
    let verdict = report.verdict(requirements, now);
    let unproven = match verdict {
        Verdict::Tampered => Vec::new(),
        Verdict::Proven | Verdict::Unproven => report.unproven(requirements, now),
    };
    let out = match format {
        Format::Json => json(&Document {
            whole: report.is_intact(),
            verdict,
            proven: report.proven(),
            unproven: &unproven,
            report,
            uncovered: report.uncovered(),
        })?,
        Format::Text => text(report, &unproven, header, Style::stdout()),
    };
    Ok(Output {
        out,
        err: String::new(),
        exit: match verdict {
            Verdict::Proven => Exit::Allowed,
            Verdict::Unproven => Exit::Unproven,
            Verdict::Tampered => Exit::Denied,
        },
    })
}

fn text(report: &Report, unproven: &[Unproven], header: Option<&Header>, style: Style) -> String {
    let mut lines = vec![verdict(report, unproven, style)];
    lines.extend(
        unproven
            .iter()
            .skip(1)
            .map(|gap| format!("  also: {}", unproven_text(gap))),
    );
    let others = report.problems.iter().skip(1);
    lines.extend(
        others
            .clone()
            .take(MAX_LISTED)
            .map(|problem| format!("  also: {}", problem_text(problem))),
    );
    if let Some(more) = others.count().checked_sub(MAX_LISTED + 1) {
        lines.push(format!("  and {} more", more + 1));
    }
    lines.push(format!(
        "events      {} of them, up to event {} ({})",
        report.events, report.size, report.hash
    ));
    if let Some(header) = header.filter(|_| report.first > 1) {
        lines.push(format!(
            "            a part of a log: the hash before event {} ({}) comes from the export itself",
            report.first, header.predecessor.hash
        ));
    }
    if let Some(origin) = &report.origin {
        lines.push(format!("log         {}", printable(origin)));
    }
    lines.push(checkpoints(report, style));
    lines.extend(heads(report, style));
    if report.is_intact() {
        lines.extend(end(report, style));
    }
    if report.kept_outside > 0 {
        let references = usize::try_from(report.kept_outside).unwrap_or(usize::MAX);
        let references = counted(references, "reference", "references");
        lines.push(format!(
            "outside     verified against {references} kept elsewhere"
        ));
    }
    if let Some(file) = report.outside.as_ref().filter(|file| !file.torn.is_empty()) {
        let places: Vec<_> = file.torn.iter().map(u64::to_string).collect();
        let torn = format!(
            "{} in the checkpoint file: incomplete notes, as interrupted writes leave them (line {})",
            report.torn,
            places.join(", ")
        );
        lines.push(format!("torn        {}", style.warning(&torn)));
    }
    if report.manifests > 0 || report.manifests_gone > 0 {
        lines.push(manifests(report, style));
    }
    lines.extend(
        report
            .remarks
            .iter()
            .take(MAX_LISTED)
            .map(|remark| self::remark(remark, style)),
    );
    if let Some(more) = report.remarked.checked_sub(MAX_LISTED as u64 + 1) {
        lines.push(format!("            and {} more such events", more + 1));
    }
    lines.join("\n") + "\n"
}

fn verdict(report: &Report, unproven: &[Unproven], style: Style) -> String {
    let Some(problem) = report.first_problem() else {
        return match (unproven.first(), report.proven()) {
            (Some(gap), _) => format!(
                "{}; every hash and link is valid",
                style.warning(&format!("NOT PROVEN ({}): {}", code(gap), gap.detail))
            ),
            (None, Some(proven)) if proven < report.size => format!(
                "{}; {}",
                style.success(&format!(
                    "intact up to event {proven}: no event up to there was changed, removed or inserted"
                )),
                style.warning(&format!(
                    "{} after it NOT proven",
                    match report.size - proven {
                        1 => "the event".to_owned(),
                        more => format!("the {more} events"),
                    }
                ))
            ),
            (None, _) => style.success("intact: no event was changed, removed or inserted"),
        };
    };
    let place = match problem.seq {
        Some(seq) => format!("TAMPERED, first at event {seq}"),
        None => "TAMPERED".to_owned(),
    };
    format!(
        "{} ({}): {}",
        style.error(&place),
        problem.code,
        printable(&problem.detail)
    )
}

fn problem_text(problem: &Problem) -> String {
    printable(&problem.to_string())
}

fn unproven_text(gap: &Unproven) -> String {
    printable(&format!("{}: {}", code(gap), gap.detail))
}

/// The code as it appears in JSON.
fn code(gap: &Unproven) -> String {
    serde_json::to_value(gap.code)
        .ok()
        .and_then(|name| Some(name.as_str()?.to_owned()))
        .unwrap_or_default()
}

fn heads(report: &Report, style: Style) -> Option<String> {
    let matched = report.head_matched?;
    Some(format!(
        "heads       {}",
        style.success(&format!("the log matches the head kept of event {matched}"))
    ))
}

/// A warning if nothing outside the log proves where it ends.
fn end(report: &Report, style: Style) -> Option<String> {
    if report.kept_outside > 0 {
        return None;
    }
    let warning = "no external reference was given (--checkpoints, --head): the removal of the last events together with \
               their checkpoints would not be detected";
    Some(format!("end         {}", style.warning(warning)))
}

fn checkpoints(report: &Report, style: Style) -> String {
    let number = report.checkpoints;
    if !report.signatures_verified {
        let warning =
            format!("{number}; their signatures were NOT verified: pass the registry with --signers");
        return format!("checkpoints {}", style.warning(&warning));
    }
    let uncovered = match (report.covered, report.uncovered()) {
        (None, _) => style.warning("no signed checkpoint covers any of these events"),
        (Some(size), 0) => format!("signed up to event {size}, the last"),
        (Some(size), 1) => format!("signed up to event {size}; the event after it is not covered yet"),
        (Some(size), more) => {
            format!("signed up to event {size}; the {more} events after it are not covered yet")
        }
    };
    format!("checkpoints {number}; {uncovered}")
}

fn manifests(report: &Report, style: Style) -> String {
    let verified = if report.signatures_verified {
        ""
    } else {
        ", not verified"
    };
    let gone = match report.manifests_gone {
        0 => String::new(),
        gone => style.warning(&format!("; {gone} recorded in events are missing from the table")),
    };
    format!("manifests   {} signatures{verified}{gone}", report.manifests)
}

fn remark(remark: &Warning, style: Style) -> String {
    let what = match remark.count {
        Some(count) => format!("{count} events were lost"),
        None if remark.kind.name() == "clock" => "a host's clock went back".to_owned(),
        None => "events were lost".to_owned(),
    };
    let text = format!("event {} ({}) reports: {what}", remark.seq, remark.recorded);
    format!("note        {}", style.warning(&text))
}
