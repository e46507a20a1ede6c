//! `postern check`: reports every error in a configuration, and what else has to be set up for it.

mod hints;
mod order;
mod report;

use anyhow::Result;

use crate::document::Problem;
use crate::input;
use crate::load::{self, Loaded};
use crate::output::{Exit, Output, json};
use crate::secrets::UnsetSecret;
use crate::style::Style;
use crate::time;

pub(crate) use report::invalid;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern check gate.yaml\n  \
    postern check --env gate.yaml         with the secrets' variables set, as Envoy will have them\n  \
    helm template . | yq .gate | postern check -\n  \
    postern check --json gate.yaml | jq -r '.errors[].path'")]
pub(crate) struct Args {
    /// The configuration, YAML or JSON; `-` reads standard input
    #[arg(value_name = "GATE.yaml")]
    file: String,
    /// Treat an unset secret as an error instead of a warning
    #[arg(long)]
    env: bool,
    /// Print one JSON document: valid, errors, warnings, hints
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<Output> {
    let file = input::display_name(&args.file);
    let unset = if args.env {
        UnsetSecret::Error
    } else {
        UnsetSecret::Placeholder
    };
    match load::file(&args.file, unset) {
        Ok(loaded) => valid(file, &loaded, args.json),
        Err(invalid) => report::invalid(file, &invalid, args.json),
    }
}

fn valid(file: &str, loaded: &Loaded, as_json: bool) -> Result<Output> {
    let warnings: Vec<Problem> = loaded
        .unset_secrets
        .iter()
        .chain(&loaded.secret_warnings)
        .cloned()
        .chain(hints::warnings(loaded, time::now()))
        .collect();
    let report = report::Report {
        file,
        valid: true,
        summary: Some(report::Summary::of(&loaded.config)),
        errors: &[],
        warnings: &warnings,
        hints: &hints::hints(&loaded.config),
    };
    if as_json {
        return Ok(Output::ok(json(&report)?));
    }
    Ok(Output {
        out: report.valid_text(Style::stdout()),
        err: report.warnings_text(Style::stderr()),
        exit: Exit::Allowed,
    })
}
