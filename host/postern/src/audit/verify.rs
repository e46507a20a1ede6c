//! `postern audit verify`: whether the log is the one that was written.

use anyhow::Result;
use postern_audit::verify::verify;

use super::Format;
use super::against::Given;
use super::bar::Bar;
use super::report;
use super::store::{self, Store};
use crate::output::Output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "What it looks at: each payload is hashed and read again and must say what its place says; \
    each event must follow the one before it. A log that was cut or replaced as a whole shows only against what \
    its changer could not reach: the signatures of checkpoints (--signers), the file of checkpoints kept outside \
    (--checkpoints), a head that was written down (--head).\n\n\
    Exit codes: 0 whole, as far as it was held against something; 2 tampered: the first event that is wrong is \
    named, and what is wrong with it; 3 it cannot be read, or bad usage.\n\n\
    Examples:\n  \
    postern audit verify --store sqlite:/var/lib/postern/audit.sqlite --signers signers.toml\n  \
    postern audit verify --signers signers.toml --checkpoints /mnt/worm/checkpoints --head 12000:9f86d0…\n  \
    AUDIT_STORE_URL=postgres://auditor@db/audit postern audit verify --signers signers.toml --format json"
)]
pub(crate) struct Args {
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    given: Given,
    /// How to print what was found
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(args: Args) -> Result<Output> {
    // The file outside first: what is added to it later is of events that are not looked at.
    let against = args.given.read()?;
    let runtime = store::runtime()?;
    let readers = store::readers();
    let reader = args.store.open(&runtime, readers)?;
    let bar = Bar::known();
    let found = runtime.block_on(verify(&reader, against, readers, |progress| bar.tell(progress)));
    drop(bar);
    report::output(&found?, None, args.format)
}
