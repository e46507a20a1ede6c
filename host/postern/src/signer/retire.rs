//! `postern signer retire`: one that signs no more.

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};

use super::registry::{self, RELOAD, format_time, system_time};
use crate::output::Output;
use crate::style::Style;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern signer retire kernel-2026 --registry signers.toml\n  \
    postern signer retire kernel-2026 --at 2026-11-20T18:30:00Z --registry signers.toml\n                    \
    its key was no longer safe from then on\n\n\
    The signer stays in the registry: auditors verify with it what it signed before. Hosts write its retirement into the \
    audit log, and in the log what stands before that counts. For an end in the future, leave it active and set \
    valid_until in the file.")]
pub(crate) struct Args {
    /// The signer's id
    id: String,
    /// From when on none of its signatures counts, wherever it stands; unless given, it is retired now, and what it has
    /// signed counts
    #[arg(long, value_name = "TIME", value_parser = time::timestamp)]
    at: Option<Duration>,
    #[command(flatten)]
    registry: registry::Args,
}

pub(super) fn run(args: &Args) -> Result<Output> {
    let now = SystemTime::now();
    let at = args.at.map(system_time).transpose()?;
    ensure!(
        at.is_none_or(|at| at <= now),
        "--at is in the future, and a retired signer signs no more from now on: set valid_until in {} instead",
        args.registry.name()
    );
    args.registry.update(|text| match at {
        Some(at) => postern_signers::retire(text, &args.id, at),
        None => postern_signers::retire_now(text, &args.id, now),
    })?;

    let registry = args.registry.read()?;
    let until = registry.get(&args.id).and_then(|signer| signer.valid_until);
    let counts = match until {
        Some(until) if until <= now => format!("What it signed before {} still counts", format_time(until)),
        _ => "What it has signed still counts".to_owned(),
    };
    Ok(Output::ok(format!(
        "{} {} in {}\n{counts}; nothing else does. {RELOAD}\n",
        Style::stdout().success("Retired"),
        args.id,
        args.registry.name(),
    )))
}
