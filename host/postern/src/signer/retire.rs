//! `postern signer retire`: retires a signer.

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
    its key was compromised at that time\n\n\
    The signer stays in the registry, so that auditors can verify its existing signatures. Hosts record the retirement in \
    the audit log; signatures before that event stay trusted. For an end in the future, leave the signer active and set \
    valid_until in the file.")]
pub(crate) struct Args {
    /// The signer's id
    id: String,
    /// The time from which none of its signatures is trusted, wherever it appears; by default it is retired now and its
    /// existing signatures stay trusted
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
        "--at is in the future, but a retired signer can no longer sign from now on: set valid_until in {} instead",
        args.registry.name()
    );
    args.registry.update(|text| match at {
        Some(at) => postern_signers::retire(text, &args.id, at),
        None => postern_signers::retire_now(text, &args.id, now),
    })?;

    let registry = args.registry.read()?;
    let until = registry.get(&args.id).and_then(|signer| signer.valid_until);
    let trusted = match until {
        Some(until) if until <= now => {
            format!("Its signatures made before {} stay trusted", format_time(until))
        }
        _ => "Its existing signatures stay trusted".to_owned(),
    };
    Ok(Output::ok(format!(
        "{} {} in {}\n{trusted}; no others are. {RELOAD}\n",
        Style::stdout().success("Retired"),
        args.id,
        args.registry.name(),
    )))
}
