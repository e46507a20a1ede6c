//! `postern signer add`: one more whose signatures count.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use postern_command::signer_uses::SignerUses;

use super::registry::{self, RELOAD, moment, written};
use crate::output::Output;
use crate::paint::Paint;
use crate::time;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern signer add kernel-2027 ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo= --registry signers.toml\n  \
    postern signer add log-2027 \"$KEY\" --use checkpoint --registry signers.toml\n  \
    postern signer add kernel-2027 \"$KEY\" --from 2027-01-01T00:00:00Z --until 2028-01-01T00:00:00Z \
    --registry signers.toml\n\n\
    To change from one signer to the next: add the new one, have the KMS sign with it, then retire the old one. A \
    file that is not there is made; comments stay.")]
pub(crate) struct Args {
    /// The signer's id, as the signing proxy says it: letters, digits, and . _ - : /
    id: String,
    /// Its public key: ed25519: and 32 bytes in Base64
    #[arg(value_name = "KEY")]
    key: String,
    #[command(flatten)]
    uses: SignerUses,
    /// The first moment of which its signatures count
    #[arg(long, value_name = "TIME", value_parser = time::instant)]
    from: Option<Duration>,
    /// The first moment of which they do not any more
    #[arg(long, value_name = "TIME", value_parser = time::instant)]
    until: Option<Duration>,
    #[command(flatten)]
    registry: registry::Args,
}

pub(super) fn run(args: &Args) -> Result<Output> {
    let key = postern_signers::parse_key(&args.key).context("KEY")?;
    let from = args.from.map(moment).transpose()?;
    let until = args.until.map(moment).transpose()?;
    if let (Some(from), Some(until)) = (from, until) {
        ensure!(
            from < until,
            "--until is not after --from: no signature would count"
        );
    }
    let uses = args.uses.uses();
    args.registry
        .change_or_make(|text| postern_signers::add_for(text, &args.id, &key, Some(uses), from, until))?;

    let (id, file) = (&args.id, args.registry.name());
    let paint = Paint::stdout();
    let from = from.map_or_else(String::new, |from| format!(" from {}", written(from)));
    let until = until.map_or_else(String::new, |until| format!(" until {}", written(until)));
    Ok(Output::ok(format!(
        "{} {id} in {file}\nIts signatures count for {uses}{from}{until}. {RELOAD}\n",
        paint.good("Added"),
    )))
}
