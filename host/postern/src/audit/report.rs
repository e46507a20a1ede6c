//! What a verification found, for people and for programs.

use std::time::SystemTime;

use anyhow::Result;
use postern_audit::Time;
use postern_audit::export::Header;
use postern_audit::verify::{Demands, Problem, Report, Unproven, Verdict, Warning};
use serde::Serialize;

use super::Format;
use crate::output::{Exit, Output, json};
use crate::paint::Paint;
use crate::text::printable;

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

/// How many things of a kind are printed.
const MOST: usize = 10;

pub(super) fn output(
    report: &Report,
    header: Option<&Header>,
    demands: Demands,
    format: Format,
) -> Result<Output> {
    let now = Time::of(SystemTime::now());
    let verdict = report.verdict(demands, now);
    let unproven = match verdict {
        Verdict::Tampered => Vec::new(),
        Verdict::Proven | Verdict::Unproven => report.unproven(demands, now),
    };
    let out = match format {
        Format::Json => json(&Document {
            whole: report.is_whole(),
            verdict,
            proven: report.proven(),
            unproven: &unproven,
            report,
            uncovered: report.uncovered(),
        })?,
        Format::Text => text(report, &unproven, header, Paint::stdout()),
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

fn text(report: &Report, unproven: &[Unproven], header: Option<&Header>, paint: Paint) -> String {
    let mut lines = vec![verdict(report, unproven, paint)];
    lines.extend(
        unproven
            .iter()
            .skip(1)
            .map(|lack| format!("  also: {}", told_lack(lack))),
    );
    let others = report.problems.iter().skip(1);
    lines.extend(
        others
            .clone()
            .take(MOST)
            .map(|problem| format!("  also: {}", told(problem))),
    );
    if let Some(more) = others.count().checked_sub(MOST + 1) {
        lines.push(format!("  and {} more", more + 1));
    }
    lines.push(format!(
        "events      {} of them, up to event {} ({})",
        report.events, report.size, report.hash
    ));
    if let Some(header) = header.filter(|_| report.first > 1) {
        lines.push(format!(
            "            a part of a log: what event {} follows ({}) is taken from the export itself",
            report.first, header.behind.hash
        ));
    }
    if let Some(origin) = &report.origin {
        lines.push(format!("log         {}", printable(origin)));
    }
    lines.push(checkpoints(report, paint));
    lines.extend(heads(report, paint));
    if report.is_whole() {
        lines.extend(end(report, paint));
    }
    if report.kept_outside > 0 {
        lines.push(format!(
            "outside     held against {} kept elsewhere",
            report.kept_outside
        ));
    }
    if let Some(file) = report.outside.as_ref().filter(|file| !file.torn.is_empty()) {
        let places: Vec<_> = file.torn.iter().map(u64::to_string).collect();
        let torn = format!(
            "{} in the file of checkpoints: no checkpoints; a write that was cut short leaves one (from line {})",
            report.torn,
            places.join(", ")
        );
        lines.push(format!("torn        {}", paint.warning(&torn)));
    }
    if report.manifests > 0 || report.manifests_gone > 0 {
        lines.push(manifests(report, paint));
    }
    lines.extend(
        report
            .remarks
            .iter()
            .take(MOST)
            .map(|remark| self::remark(remark, paint)),
    );
    if let Some(more) = report.remarked.checked_sub(MOST as u64 + 1) {
        lines.push(format!("            and {} more such events", more + 1));
    }
    lines.join("\n") + "\n"
}

fn verdict(report: &Report, unproven: &[Unproven], paint: Paint) -> String {
    let Some(problem) = report.first_problem() else {
        return match (unproven.first(), report.proven()) {
            (Some(lack), _) => format!(
                "{}, and no hash or link in it is wrong",
                paint.warning(&format!("NOT PROVEN ({}): {}", name(lack), lack.detail))
            ),
            (None, Some(proven)) if proven < report.size => format!(
                "{}; {}",
                paint.good(&format!(
                    "whole up to event {proven}: nothing up to there was changed, removed or inserted"
                )),
                paint.warning(&format!(
                    "{} behind it NOT proven",
                    match report.size - proven {
                        1 => "the event".to_owned(),
                        more => format!("the {more} events"),
                    }
                ))
            ),
            (None, _) => paint.good("whole: nothing was changed, removed or inserted"),
        };
    };
    let place = match problem.seq {
        Some(seq) => format!("TAMPERED, first at event {seq}"),
        None => "TAMPERED".to_owned(),
    };
    format!(
        "{} ({}): {}",
        paint.bad(&place),
        problem.code,
        printable(&problem.detail)
    )
}

fn told(problem: &Problem) -> String {
    printable(&problem.to_string())
}

fn told_lack(lack: &Unproven) -> String {
    printable(&format!("{}: {}", name(lack), lack.detail))
}

/// As it stands in JSON.
fn name(lack: &Unproven) -> String {
    serde_json::to_value(lack.code)
        .ok()
        .and_then(|name| Some(name.as_str()?.to_owned()))
        .unwrap_or_default()
}

fn heads(report: &Report, paint: Paint) -> Option<String> {
    let matched = report.head_matched?;
    Some(format!(
        "heads       {}",
        paint.good(&format!("what was written down of event {matched} is so"))
    ))
}

/// What no log can show of its own end.
fn end(report: &Report, paint: Paint) -> Option<String> {
    if report.kept_outside > 0 {
        return None;
    }
    let not = "nothing kept elsewhere was given (--checkpoints, --head): events behind the last, cut off with their \
               checkpoints, would not show";
    Some(format!("end         {}", paint.warning(not)))
}

fn checkpoints(report: &Report, paint: Paint) -> String {
    let number = report.checkpoints;
    if !report.signatures_verified {
        let not = format!("{number}; their signatures were NOT verified: give the registry with --signers");
        return format!("checkpoints {}", paint.warning(&not));
    }
    let uncovered = match (report.covered, report.uncovered()) {
        (None, _) => paint.warning("no signed one covers any of these events"),
        (Some(size), 0) => format!("signed up to event {size}, the last"),
        (Some(size), 1) => format!("signed up to event {size}; the event behind it is not covered yet"),
        (Some(size), more) => {
            format!("signed up to event {size}; the {more} events behind it are not covered yet")
        }
    };
    format!("checkpoints {number}; {uncovered}")
}

fn manifests(report: &Report, paint: Paint) -> String {
    let verified = if report.signatures_verified {
        ""
    } else {
        ", not verified"
    };
    let gone = match report.manifests_gone {
        0 => String::new(),
        gone => paint.warning(&format!("; {gone} that events tell of are not in the table")),
    };
    format!("manifests   {} signatures{verified}{gone}", report.manifests)
}

fn remark(remark: &Warning, paint: Paint) -> String {
    let what = match remark.count {
        Some(count) => format!("{count} events were lost"),
        None if remark.kind.name() == "clock" => "a host's clock went back".to_owned(),
        None => "events were lost".to_owned(),
    };
    let said = format!("event {} ({}) says: {what}", remark.seq, remark.recorded);
    format!("note        {}", paint.warning(&said))
}
