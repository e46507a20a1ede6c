//! `postern audit verify`: verifies the log against trusted references.

use anyhow::Result;

use super::Format;
use super::backup::verify_log;
use super::references::ReferenceArgs;
use super::report;
use super::store::{self, StoreArgs};
use crate::output::Output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each payload is hashed and parsed, and must match its position; each event must follow the one before it. A \
    log that was cut or replaced as a whole is detected only against references that its editor could not reach: the \
    signatures of checkpoints (--signers), the checkpoint file kept outside the store (--checkpoints), a head that was \
    kept (--head). Each proves the events up to the one that it names. Later events are reported as not proven; they \
    fail the verification with --require-covered, or after more than a day.\n\n\
    Exit codes: 0 intact, and proven as far as reported; 2 tampered with: the first invalid event and its error are \
    named; 3 unreadable store or bad usage; 4 no error was found, but the log is not proven: no signed checkpoint, an \
    external file that is empty, torn or short, or --require-covered or --max-age is not met.\n\n\
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
    /// The output format
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
