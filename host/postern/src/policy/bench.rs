//! `postern policy bench`: measures the latency of decisions.

mod measure;

use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use postern_policy::cases::Cases;
use serde::Serialize;

use super::harness::{self, Entry, Harness};
use super::request::{self, RequestArgs};
use super::run::EntryArgs;
use super::{decision, grants, logs};
use crate::output::{Output, json};
use crate::style::Style;
use crate::text::counted;
use measure::{Benchmark, Measurements};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern policy bench rbac.wasm --cases rbac.cases.yaml --case 'an auditor may read'\n  \
    postern policy bench rbac.wasm --path /orders/7 --role Operator --config rbac.yaml --seconds 10\n  \
    postern policy bench rbac.wasm --config rbac.yaml --json | jq .p99_us\n\n\
    Each decision is made by a fresh instance, as in the host. The default request has 15 headers and a caller.")]
pub(crate) struct Args {
    /// The module
    #[arg(value_name = "MODULE.wasm")]
    module: PathBuf,
    /// A file of cases, for the request and the configuration
    #[arg(long, value_name = "FILE")]
    cases: Option<PathBuf>,
    /// The name of the case; by default the first
    #[arg(long, value_name = "NAME", requires = "cases")]
    case: Option<String>,
    /// The duration of the measurement, in seconds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// The number of threads that decide concurrently
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// Print one JSON document: p50_us, p99_us, p999_us, memory_bytes, decisions, decisions_per_second
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    entry: EntryArgs,
}

#[derive(Serialize)]
struct Document {
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    memory_bytes: usize,
    decisions: u64,
    decisions_per_second: f64,
}

pub(crate) fn run(args: &Args) -> Result<Output> {
    let harness = Harness::new(usize::from(args.threads) + 1)?;
    let module = harness.module(&args.module)?;
    let cases = cases(args)?;
    let Some(case) = cases.cases.first() else {
        bail!("there is no request");
    };
    let config = case.config.clone().or_else(|| cases.config.clone());
    let entry = Entry {
        grants: grants::for_run(&module, &args.entry.grants),
        config: config.unwrap_or_else(|| serde_json::json!({})),
        deadline: args.entry.deadline,
    };
    let policies = harness.load(&args.module, &module, entry)?;
    let name = harness::module_name(&args.module);
    let benchmark = Benchmark {
        policies: &policies,
        name: &name,
        request: &case.request.to_request(),
        threads: args.threads,
    };

    let first = logs::suppress(|| {
        harness
            .runtime
            .block_on(policies.decide(&name, benchmark.request))
    });
    let memory = match &first {
        Ok(decided) => decided.memory,
        Err(failure) => {
            bail!("there is nothing to measure: the policy {failure} (see --config, --cases and --deadline)")
        }
    };
    let first = first.map(|decided| decided.decision);
    benchmark.run(measure::WARM_UP, |_| ())?;
    let time = Duration::from_secs(args.seconds);
    let measured = benchmark.run(time, progress(time, args.json))?;

    let document = document(&measured, memory);
    let out = if args.json {
        json(&document)?
    } else {
        text(args, &document, &decision::line(&first, Style::stdout()))
    };
    let err = match measured.failed {
        0 => String::new(),
        failed => {
            let head = Style::stderr().warning("warning:");
            let decisions = counted(usize::try_from(failed)?, "decision", "decisions");
            format!(
                "{head} {decisions} failed, the last with: {}\n",
                measured.last_failure.unwrap_or_default()
            )
        }
    };
    Ok(Output {
        err,
        ..Output::ok(out)
    })
}

/// The request to decide on: from a file of cases, from the flags, or the typical one.
fn cases(args: &Args) -> Result<Cases> {
    let mut cases = match &args.cases {
        Some(file) => {
            ensure!(
                !args.request.is_given(),
                "the request comes from --cases or from flags, not from both"
            );
            let text =
                std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
            let mut cases = Cases::parse(&text).with_context(|| file.display().to_string())?;
            if let Some(wanted) = &args.case {
                cases.cases.retain(|case| case.name == *wanted);
                ensure!(
                    !cases.cases.is_empty(),
                    "{}: there is no case {wanted:?}",
                    file.display()
                );
            }
            cases
        }
        None if args.request.is_given() => args.request.case()?,
        None => request::typical()?,
    };
    if let Some(config) = &args.entry.config {
        let config = request::config(Some(config))?;
        for case in &mut cases.cases {
            case.config = Some(config.clone());
        }
    }
    Ok(cases)
}

/// A progress line, printed only to a terminal.
fn progress(time: Duration, json: bool) -> impl Fn(Duration) {
    let shown = !json && std::io::stderr().is_terminal();
    move |elapsed| {
        if !shown {
            return;
        }
        let line = if elapsed < time {
            format!("\r  measuring … {} s left ", (time - elapsed).as_secs() + 1)
        } else {
            "\r\u{1b}[K".to_owned()
        };
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

fn document(measured: &Measurements, memory: usize) -> Document {
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    let micros = |quantile| rounded(measured.nanos_at(quantile) as f64 / 1000.0);
    let decisions = measured.decisions();
    Document {
        p50_us: micros(0.5),
        p99_us: micros(0.99),
        p999_us: micros(0.999),
        memory_bytes: memory,
        decisions,
        decisions_per_second: rounded(decisions as f64 / measured.elapsed.as_secs_f64()),
    }
}

fn text(args: &Args, document: &Document, decides: &str) -> String {
    let style = Style::stdout();
    let rows = [
        ("decides", decides.to_owned()),
        ("p50", decision::time(document.p50_us)),
        ("p99", decision::time(document.p99_us)),
        ("p99.9", decision::time(document.p999_us)),
        ("memory", decision::size(document.memory_bytes)),
        (
            "rate",
            format!(
                "{:.0} decisions per second on {} ({} in total)",
                document.decisions_per_second,
                counted(usize::from(args.threads), "thread", "threads"),
                document.decisions
            ),
        ),
    ];
    let rows: String = rows
        .iter()
        .map(|(title, value)| format!("  {title:<8} {value}\n"))
        .collect();
    format!("{}\n{rows}", style.bold(&args.module.display().to_string()))
}
