//! `postern signer add`: adds a trusted signer.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_command::signer_uses::SignerUses;

use super::registry::{self, RELOAD, format_time, system_time};
use crate::output::Output;
use crate::style::Style;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern signer add kernel-2027 ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo= --registry signers.toml\n  \
    postern signer add log-2027 \"$KEY\" --use checkpoint --registry signers.toml\n  \
    postern signer add kernel-2027 \"$KEY\" --from 2027-01-01T00:00:00Z --until 2028-01-01T00:00:00Z \
    --registry signers.toml\n\n\
    To rotate a signer: add the new one, have the KMS sign with it, then retire the old one. The file is created if it \
    does not exist; comments are kept.")]
pub(crate) struct Args {
    /// The signer's id, as the KMS proxy reports it: letters, digits, and . _ - : /
    id: String,
    /// The public key: ed25519: and 32 bytes in Base64
    #[arg(value_name = "KEY")]
    key: String,
    #[command(flatten)]
    uses: SignerUses,
    /// The time from which its signatures are trusted
    #[arg(long, value_name = "TIME", value_parser = time::timestamp)]
    from: Option<Duration>,
    /// The time from which its signatures are no longer trusted
    #[arg(long, value_name = "TIME", value_parser = time::timestamp)]
    until: Option<Duration>,
    #[command(flatten)]
    registry: registry::Args,
}

pub(super) fn run(args: &Args) -> Result<Output> {
    let key = postern_signers::parse_key(&args.key).context("KEY")?;
    let from = args.from.map(system_time).transpose()?;
    let until = args.until.map(system_time).transpose()?;
    if let (Some(from), Some(until)) = (from, until) {
        ensure!(
            from < until,
            "--until is not after --from: no signature would be trusted"
        );
    }
    let uses = args.uses.uses();
    args.registry.update_or_create(|text| {
        postern_signers::add_with_uses(text, &args.id, &key, Some(uses), from, until)
    })?;

    let (id, file) = (&args.id, args.registry.name());
    let style = Style::stdout();
    let from = from.map_or_else(String::new, |from| format!(" from {}", format_time(from)));
    let until = until.map_or_else(String::new, |until| format!(" until {}", format_time(until)));
    Ok(Output::ok(format!(
        "{} {id} in {file}\nIts signatures are trusted for {uses}{from}{until}. {RELOAD}\n",
        style.success("Added"),
    )))
}
