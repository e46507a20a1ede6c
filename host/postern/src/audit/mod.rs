//! `postern audit …`: verifies, prints, exports, backs up and restores the audit log.

mod backup;
mod events;
mod export;
mod head;
mod progress;
mod query;
mod references;
mod replay;
mod report;
mod restore;
mod store;
mod tail;
mod time_arg;
mod verify;

use anyhow::Result;
use clap::ValueEnum;

use crate::output::Output;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Verify every payload, link and checkpoint of the log, and name the first invalid event
    Verify(verify::Args),
    /// Print the last events, and follow new ones
    Tail(tail::Args),
    /// Print the events that match filters
    Query(query::Args),
    /// Export the log, or a part of it, to a file that can be verified without the database
    Export(export::Args),
    /// Verify an export on any machine
    Replay(replay::Args),
    /// Print the head of the log, for an auditor to keep and to pass to verify
    Head(head::Args),
    /// Back up the log to one verified file, while hosts keep writing
    Backup(Box<backup::Args>),
    /// Restore a log from a backup
    Restore(Box<restore::Args>),
}

impl Command {
    pub(crate) fn run(self) -> Result<Output> {
        match self {
            Self::Verify(args) => verify::run(args),
            Self::Tail(args) => tail::run(&args),
            Self::Query(args) => query::run(&args),
            Self::Export(args) => export::run(&args),
            Self::Replay(args) => replay::run(args),
            Self::Head(args) => head::run(&args),
            Self::Backup(args) => backup::run(&args),
            Self::Restore(args) => restore::run(&args),
        }
    }
}

/// The output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Text for people
    Text,
    /// JSON for programs
    Json,
}
