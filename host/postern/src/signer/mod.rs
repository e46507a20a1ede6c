//! `postern signer …`: the registry of those whose signatures count, `signers.toml`.

mod add;
mod export;
mod list;
mod registry;
mod retire;

use anyhow::Result;

use crate::output::Output;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Add a signer: from now on, or for a time, its signatures count
    Add(add::Args),
    /// Retire a signer: it signs no more, and what it signed before still counts
    Retire(retire::Args),
    /// Tell who may sign, who may no more, and who may not yet
    List(list::Args),
    /// Print a signer's public key, in PEM for other programs
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
