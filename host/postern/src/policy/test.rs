//! `postern policy test`: compares the decisions of a module with the expected ones.

mod diff;
mod watch;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use postern_policy::cases::{self, Case, CaseReport, Cases};
use postern_policy::{Grants, Limits, Module};

use super::build::{self, BuildOptions};
use super::harness::Harness;
use super::logs::LogLine;
use super::{grants, logs};
use crate::output::{Exit, Output};
use crate::style::Style;
use crate::text::{counted, printable};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern policy test                                     builds the crate here, and tests it\n  \
    postern policy test --watch                             again whenever a file of it changes\n  \
    postern policy test rbac.wasm --cases rbac.cases.yaml --filter auditor\n\n\
    A case:\n  \
    - name: an operator may write\n    \
    request: {method: POST, path: /orders, identity: {subject: ann, roles: [Operator]}}\n    \
    expect: {allow: {headers: {x-operator: ann}}}\n\n\
    Exit code 0: all cases pass; 2: some fail; 3: nothing was tested. Each case starts with an empty store, and \
    calls no HTTP host. What a module logs is printed below a case that fails.")]
pub(crate) struct Args {
    /// A module, or the folder of its crate, which is built first
    #[arg(value_name = "MODULE.wasm|CRATE", default_value = ".")]
    target: PathBuf,
    /// The cases; by default <module>.cases.yaml or cases.yaml beside the module
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// Run only the cases whose name contains this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Keep running, and test again whenever the crate, the module or the cases change
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    options: BuildOptions,
}

pub(crate) fn run(args: &Args) -> Result<Output> {
    let harness = Harness::new(2)?;
    if args.watch {
        watch::run(&harness, args)
    } else {
        once(&harness, args)
    }
}

fn once(harness: &Harness, args: &Args) -> Result<Output> {
    let cases_file = cases_file(args)?;
    let cases = read(&cases_file, args.filter.as_deref())?;
    let module = if args.target.is_dir() {
        build::build(harness, &args.target, &args.options, None)?.module
    } else {
        harness.module(&args.target)?
    };
    let granted = grants::for_cases(&module);
    let started = Instant::now();
    let style = Style::stdout();
    let (mut out, mut failed) = (String::new(), 0);
    for case in &cases.cases {
        let (report, lines) = run_case(harness, &module, &granted, &cases, case)?;
        failed += usize::from(!report.passed());
        out.push_str(&report_text(&report, &lines, style));
    }
    let total = cases.cases.len();
    let summary = format!(
        "{}: {} passed, {failed} failed, in {} ms",
        counted(total, "case", "cases"),
        total - failed,
        started.elapsed().as_millis()
    );
    out.push_str(&format!(
        "\n{}\n",
        if failed == 0 {
            style.success(&summary)
        } else {
            style.error(&summary)
        }
    ));
    Ok(Output {
        out,
        err: String::new(),
        exit: if failed == 0 { Exit::Allowed } else { Exit::Denied },
    })
}

/// Runs one case, and returns its report and what the module logged.
fn run_case(
    harness: &Harness,
    module: &Module,
    grants: &Grants,
    cases: &Cases,
    case: &Case,
) -> Result<(CaseReport, Vec<LogLine>)> {
    let alone = Cases {
        config: cases.config.clone(),
        cases: vec![case.clone()],
    };
    let run = cases::run(
        &harness.engines,
        module,
        grants,
        Limits::default(),
        &harness.services,
        &alone,
    );
    let (reports, lines) = logs::capture(|| harness.runtime.block_on(run));
    let report = reports?.pop().context("the case was not run")?;
    Ok((report, lines))
}

/// Formats the report of a case.
fn report_text(report: &CaseReport, lines: &[LogLine], style: Style) -> String {
    let name = printable(&report.name);
    if report.passed() {
        return format!("{} {name}\n", style.success("✓"));
    }
    let mut text = format!("{} {}\n", style.error("✗"), style.bold(&name));
    for difference in &report.differences {
        text.push_str(&diff::format(difference, style));
    }
    text.push_str(&logs::format_lines(lines, "    ", style));
    text
}

/// Reads the cases, and keeps those that match the filter.
fn read(file: &Path, filter: Option<&str>) -> Result<Cases> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut cases = Cases::parse(&text).with_context(|| file.display().to_string())?;
    if let Some(filter) = filter {
        cases.cases.retain(|case| case.name.contains(filter));
        ensure!(
            !cases.cases.is_empty(),
            "{}: no case has {filter:?} in its name",
            file.display()
        );
    }
    Ok(cases)
}

/// The file of cases for the target.
fn cases_file(args: &Args) -> Result<PathBuf> {
    match &args.cases {
        Some(file) => Ok(file.clone()),
        None if args.target.is_dir() => Ok(args.target.join("cases.yaml")),
        None => cases_beside(&args.target).with_context(|| {
            let own = args.target.with_extension("cases.yaml");
            format!(
                "there is neither {} nor a cases.yaml beside it: name the cases with --cases",
                own.display()
            )
        }),
    }
}

/// The cases beside a module, if any: `<module>.cases.yaml`, otherwise `cases.yaml`.
pub(super) fn cases_beside(module: &Path) -> Option<PathBuf> {
    [
        module.with_extension("cases.yaml"),
        module.with_file_name("cases.yaml"),
    ]
    .into_iter()
    .find(|file| file.is_file())
}

/// Runs all cases with these grants and returns their number. The first failure is an error.
pub(super) fn run_all(harness: &Harness, module: &Module, grants: &Grants, text: &str) -> Result<usize> {
    let cases = Cases::parse(text)?;
    for case in &cases.cases {
        let (report, _) = run_case(harness, module, grants, &cases, case)?;
        if let Some(difference) = report.differences.first() {
            bail!("the case `{}` fails: {difference}", report.name);
        }
    }
    Ok(cases.cases.len())
}
