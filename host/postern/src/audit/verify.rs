//! `postern audit verify`: whether the log is the one that was written.

use anyhow::Result;

use super::Format;
use super::backup::verify_log;
use super::references::ReferenceArgs;
use super::report;
use super::store::{self, StoreArgs};
use crate::output::Output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "What it looks at: each payload is hashed and read again and must say what its place says; \
    each event must follow the one before it. A log that was cut or replaced as a whole shows only against what \
    its changer could not reach: the signatures of checkpoints (--signers), the file of checkpoints kept outside \
    (--checkpoints), a head that was written down (--head). Each proves the events up to the one that it names; what \
    follows is said not to be proven, and fails the verification with --require-covered, or once it has been so for \
    more than a day.\n\n\
    Exit codes: 0 whole, and proven as far as is said; 2 tampered: the first event that is wrong is named, and what is \
    wrong with it; 3 it cannot be read, or bad usage; 4 nothing wrong was found, but it is not proven either: no signed \
    checkpoint, an outside file that is empty, torn or short, or what --require-covered and --max-age ask for.\n\n\
    Examples:\n  \
    postern audit verify --store sqlite:/var/lib/postern/audit.sqlite --signers signers.toml\n  \
    postern audit verify --signers signers.toml --checkpoints /mnt/worm/checkpoints --head 12000:9f86d0…\n  \
    postern audit verify --signers signers.toml --origin postern.example.com/audit --require-covered --max-age 1h\n  \
    AUDIT_STORE_URL=postgres://auditor@db/audit postern audit verify --signers signers.toml --format json"
)]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    references: ReferenceArgs,
    /// How to print what was found
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(args: Args) -> Result<Output> {
    let runtime = store::runtime()?;
    let reader = args.store.open(&runtime, store::readers())?;
    let references = args.references.read_beside(&runtime, &reader)?;
    let found = verify_log(&runtime, &reader, references)?;
    report::output(&found, None, args.references.requirements(), args.format)
}
