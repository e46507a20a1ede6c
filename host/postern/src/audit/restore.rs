//! `postern audit restore`: restores a log from a backup.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Result, bail};
use postern_audit::read::Reader;
use postern_audit::{Store, Time, record_restored};

use super::Format;
use super::backup::{copy_log, url, verify_log};
use super::references::ReferenceArgs;
use super::report;
use super::store::{self, StoreArgs};
use crate::output::{Exit, Output};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "The backup is verified first; a backup with an error is not restored. The store must not exist yet (SQLite) \
    or must be empty (Postgres). The restored log gets one more event, of the kind `host` with the reason \
    `audit_restored`, which records the event after which the log continues.\n\n\
    Verified against the external checkpoint file (--checkpoints), a backup that is older than the log reports the lost \
    events as `tail_missing`. If they cannot be recovered, keep that file, restore without it, and give the host a new \
    one.\n\n\
    Exit codes: as for `postern audit verify`, of the backup. With 4, the log is restored as well.\n\n\
    Examples:\n  \
    postern audit restore /backup/audit.db --store sqlite:/var/lib/postern/audit.db --signers signers.toml \
    --checkpoints /mnt/elsewhere/audit.notes\n  \
    AUDIT_STORE_URL=postgres://postern@db/audit postern audit restore /backup/audit.db --signers signers.toml"
)]
pub(crate) struct Args {
    /// The backup
    #[arg(value_name = "BACKUP")]
    backup: PathBuf,
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    references: ReferenceArgs,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<Output> {
    let target = args.store.target()?;
    let runtime = store::runtime()?;
    let reader = runtime.block_on(Reader::open(&url(&args.backup)?, MAX_READERS))?;
    let found = verify_log(&runtime, &reader, args.references.read_beside(&runtime, &reader)?)?;
    let mut output = report::output(&found, None, args.references.requirements(), args.format)?;
    if output.exit == Exit::Denied {
        output.err = "nothing was restored\n".to_owned();
        return Ok(output);
    }
    if let Store::Sqlite(path) = &target
        && exists(path)
    {
        bail!(
            "{} already exists: move it and its -wal file aside, and keep them",
            path.display()
        );
    }
    let head = copy_log(&runtime, &reader, &target)?;
    if (head.size, head.hash) != (found.size, found.hash) {
        bail!("the restored log differs from the backup: the disk may be failing");
    }
    let now = Time::of(SystemTime::now());
    let end = runtime.block_on(record_restored(&target, "postern audit restore", &head, now))?;
    output.err = format!(
        "restored up to event {}; keep {}:{}, which includes the audit_restored event\n",
        head.size, end.size, end.hash
    );
    Ok(output)
}

/// The maximum number of ranges of the backup that are read in parallel.
const MAX_READERS: u32 = 4;

/// Whether the database exists, or what is left of one.
fn exists(path: &Path) -> bool {
    ["", "-wal", "-journal"].iter().any(|suffix| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        Path::new(&name).exists()
    })
}
