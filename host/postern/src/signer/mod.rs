//! `postern signer …`: manages the registry of trusted signers, `signers.toml`.

mod add;
mod export;
mod list;
mod registry;
mod retire;

use anyhow::Result;

use crate::output::Output;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Add a trusted signer, from now on or for a limited time
    Add(add::Args),
    /// Retire a signer: it can no longer sign, and its existing signatures stay trusted
    Retire(retire::Args),
    /// List the signers and their state
    List(list::Args),
    /// Print a signer's public key, or export it as PEM for other programs
    Export(export::Args),
}

impl Command {
    pub(crate) fn run(self) -> Result<Output> {
        match self {
            Self::Add(args) => add::run(&args),
            Self::Retire(args) => retire::run(&args),
            Self::List(args) => list::run(&args),
            Self::Export(args) => export::run(&args),
        }
    }
}
