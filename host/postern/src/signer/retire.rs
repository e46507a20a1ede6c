//! `postern signer retire`: one that signs no more.

use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};

use super::registry::{self, RELOAD, moment, written};
use crate::output::Output;
use crate::paint::Paint;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern signer retire kernel-2026 --registry signers.toml\n  \
    postern signer retire kernel-2026 --at 2026-11-20T18:30:00Z        its key was no longer safe from then on\n\n\
    The signer stays in the registry: auditors verify with it what it signed before. For an end in the future, leave it \
    active and set valid_until in the file.")]
pub(crate) struct Args {
    /// The signer's id
    id: String,
    /// Until when its signatures count, if not until now
    #[arg(long, value_name = "TIME", value_parser = time::instant)]
    at: Option<Duration>,
    #[command(flatten)]
    registry: registry::Args,
}

pub(super) fn run(args: &Args) -> Result<Output> {
    let now = SystemTime::now();
    let at = args.at.map(moment).transpose()?.unwrap_or(now);
    ensure!(
        at <= now,
        "--at is in the future, and a retired signer signs no more from now on: set valid_until in {} instead",
        args.registry.name()
    );
    args.registry
        .change(|text| postern_signers::retire(text, &args.id, at))?;

    let until = args
        .registry
        .read()?
        .get(&args.id)
        .and_then(|signer| signer.valid_until)
        .unwrap_or(at);
    Ok(Output::ok(format!(
        "{} {} in {}\nWhat it signed before {} still counts; nothing else does. {RELOAD}\n",
        Paint::stdout().good("Retired"),
        args.id,
        args.registry.name(),
        written(until),
    )))
}
