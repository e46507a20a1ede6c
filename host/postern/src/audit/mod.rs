//! `postern audit …`: for those who read the audit log and want to know whether it is the one that was written.

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
    /// Verify the log: every payload, every link, every checkpoint; name the first event that is wrong
    Verify(verify::Args),
    /// Print the last events, and those that follow
    Tail(tail::Args),
    /// Print the events that match
    Query(query::Args),
    /// Write the log, or a part of it, to a file that can be verified without the database
    Export(export::Args),
    /// Verify an export, on any machine
    Replay(replay::Args),
    /// Print the end of the log in the form that an auditor keeps and gives to verify
    Head(head::Args),
    /// Copy the log to a file: consistent, while hosts write, and verified
    Backup(Box<backup::Args>),
    /// Write a log anew from its backup
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

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs: JSON
    Json,
}
