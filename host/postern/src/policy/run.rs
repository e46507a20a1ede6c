//! `postern policy run`: evaluates a module on one request.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::grants::{self, Grant};
use super::harness::{self, Entry, Harness};
use super::request::{self, RequestArgs};
use super::{decision, logs};
use crate::output::{Output, json};
use crate::style::Style;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern policy run rbac.wasm --path /orders/7 --subject ann --role Operator --config rbac.yaml\n  \
    postern policy run quota.wasm -X POST --path /orders -d @order.json -H 'x-tenant: acme'\n  \
    postern policy run rbac.wasm --request request.json --json | jq .code\n  \
    postern policy run intel.wasm --path / --grant http=intel.example.com --deadline 2s\n\n\
    Exit code 0: allowed; 2: denied; 3: no decision, no module or bad usage. The module is granted all that it \
    needs, except HTTP requests and signatures, which need --grant. What it stores is discarded afterwards. What it logs \
    goes to standard error.")]
pub(crate) struct Args {
    /// The module
    #[arg(value_name = "MODULE.wasm")]
    module: PathBuf,
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    entry: EntryArgs,
    /// Print one JSON document: decision and its parts, took_us, memory_bytes
    #[arg(long)]
    json: bool,
}

/// The settings of the module, as in an entry of the host's settings.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Entry")]
pub(super) struct EntryArgs {
    /// The configuration of the entry: JSON, or a file of YAML or JSON
    #[arg(long, value_name = "JSON|FILE")]
    pub(super) config: Option<String>,
    /// A further grant, beside the needed capabilities that reach no other system: http=HOST, or the name of a
    /// capability; repeatable
    #[arg(long = "grant", value_name = "CAPABILITY", value_parser = grants::parse)]
    pub(super) grants: Vec<Grant>,
    /// The deadline of the decision
    #[arg(long, value_name = "SPAN", default_value = "50ms", value_parser = time::duration)]
    pub(super) deadline: Duration,
}

pub(crate) fn run(args: &Args) -> Result<Output> {
    let harness = Harness::new(2)?;
    let module = harness.module(&args.module)?;
    let mut cases = args.request.case()?;
    let config = request::config(args.entry.config.as_deref())?;
    cases.config = Some(config.clone());
    let entry = Entry {
        grants: grants::for_run(&module, &args.entry.grants),
        config,
        deadline: args.entry.deadline,
    };
    let policies = harness.load(&args.module, &module, entry)?;
    let Some(case) = cases.cases.first() else {
        anyhow::bail!("there is no request");
    };
    let request = case.request.to_request();
    let name = harness::module_name(&args.module);
    let (decided, lines) = logs::capture(|| harness.runtime.block_on(policies.decide(&name, &request)));
    let took = decided.as_ref().ok().map(|decided| micros(decided.duration));
    let memory = decided.as_ref().ok().map(|decided| decided.memory);
    let decision = decided.map(|decided| decided.decision);

    let out = if args.json {
        let mut document = decision::document(&decision);
        document.took_us = took;
        document.memory_bytes = memory;
        json(&document)?
    } else {
        let mut text = decision::text(&decision, Style::stdout());
        if let (Some(took), Some(memory)) = (took, memory) {
            text.push_str(&format!(
                "\n  in {}, with {} of memory\n",
                decision::time(took),
                decision::size(memory)
            ));
        }
        text
    };
    Ok(Output {
        out,
        err: logs::format_lines(&lines, "", Style::stderr()),
        exit: decision::exit(&decision),
    })
}

fn micros(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e7).round() / 10.0
}
