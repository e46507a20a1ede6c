//! What a verification found, for people and for programs.

use anyhow::Result;
use postern_audit::export::Header;
use postern_audit::verify::{Problem, Remark, Report};
use serde::Serialize;

use super::Format;
use crate::output::{Exit, Output, json};
use crate::paint::Paint;
use crate::text::printable;

#[derive(Serialize)]
struct Document<'a> {
    whole: bool,
    #[serde(flatten)]
    report: &'a Report,
    uncovered: u64,
}

/// How many things of a kind are printed.
const MOST: usize = 10;

pub(super) fn output(report: &Report, header: Option<&Header>, format: Format) -> Result<Output> {
    let whole = report.is_whole();
    let out = match format {
        Format::Json => json(&Document {
            whole,
            report,
            uncovered: report.uncovered(),
        })?,
        Format::Text => text(report, header, Paint::stdout()),
    };
    Ok(Output {
        out,
        err: String::new(),
        exit: if whole { Exit::Allowed } else { Exit::Denied },
    })
}

fn text(report: &Report, header: Option<&Header>, paint: Paint) -> String {
    let mut lines = vec![verdict(report, paint)];
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
    lines.push(checkpoints(report, paint));
    if report.kept_outside > 0 {
        lines.push(format!(
            "outside     held against {} kept elsewhere",
            report.kept_outside
        ));
    }
    if report.torn > 0 {
        let torn = format!(
            "{} in the file of checkpoints: no checkpoints; a write that was cut short leaves one",
            report.torn
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

fn verdict(report: &Report, paint: Paint) -> String {
    let Some(problem) = report.first_problem() else {
        return if report.signatures_verified && report.checkpoints > 0 {
            paint.good("whole: nothing was changed, removed or inserted")
        } else {
            format!(
                "{}, {}",
                paint.good("the chain is whole"),
                paint.warning(
                    "but no signature was verified: a log that was replaced as a whole is whole too"
                )
            )
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

fn remark(remark: &Remark, paint: Paint) -> String {
    let what = match remark.count {
        Some(count) => format!("{count} events were lost"),
        None if remark.kind.name() == "clock" => "a host's clock went back".to_owned(),
        None => "events were lost".to_owned(),
    };
    let said = format!("event {} ({}) says: {what}", remark.seq, remark.recorded);
    format!("note        {}", paint.warning(&said))
}
