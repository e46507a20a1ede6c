//! `postern audit backup`: a consistent, verified copy of the log in one file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use postern_audit::read::Reader;
use postern_audit::verify::{Report, TrustedReferences, verify};
use postern_audit::{Head, Store, copy};
use tokio::runtime::Runtime;

use super::Format;
use super::progress::ProgressBar;
use super::references::ReferenceArgs;
use super::report;
use super::store::{self, StoreArgs};
use crate::output::{Exit, Output};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Hosts may keep writing to the log: the backup contains it up to the event that was the last one at the start, \
    with its checkpoints and the signatures of manifests, as one SQLite file, also if the log is in Postgres. The log and \
    then the copy are verified. A log with an error is not backed up: keep its original files.\n\n\
    Exit codes: as for `postern audit verify`, of the copied log. With 4, the backup is made as well.\n\n\
    Examples:\n  \
    postern audit backup --store sqlite:/var/lib/postern/audit.db -o /backup/audit.db --signers signers.toml\n  \
    AUDIT_STORE_URL=postgres://auditor@db/audit postern audit backup -o /backup/audit.db --signers signers.toml"
)]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    references: ReferenceArgs,
    /// The backup file, which must not exist
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<Output> {
    if args.output.exists() {
        bail!(
            "{} already exists: a backup is never overwritten",
            args.output.display()
        );
    }
    let runtime = store::runtime()?;
    let reader = args.store.open(&runtime, store::readers())?;
    // Read once: checkpoints that are added to the external file later cover events that are not copied.
    let references = args.references.read_beside(&runtime, &reader)?;
    let found = verify_log(&runtime, &reader, references.clone())?;
    if !found.is_intact() {
        let mut output = report::output(&found, None, args.references.requirements(), args.format)?;
        output.err = "no backup was made: keep the log's original files\n".to_owned();
        return Ok(output);
    }
    let partial = PartialFile::new(&args.output)?;
    let head = copy_log(&runtime, &reader, &Store::Sqlite(partial.path.clone()))?;
    let copy = runtime.block_on(Reader::open(&url(&partial.path)?, 2))?;
    let again = verify_log(&runtime, &copy, references)?;
    drop(copy);
    if (again.size, again.hash) != (head.size, head.hash) || head.size < found.size {
        bail!("the copy differs from the log: the disk may be failing");
    }
    let mut output = report::output(&again, None, args.references.requirements(), args.format)?;
    if output.exit != Exit::Denied {
        partial.commit(&args.output)?;
        output.err = format!(
            "{}: {} events; keep {}:{}\n",
            args.output.display(),
            head.size,
            head.size,
            head.hash
        );
    }
    Ok(output)
}

/// Verifies a log and displays the progress.
pub(super) fn verify_log(
    runtime: &Runtime,
    reader: &Reader,
    references: TrustedReferences,
) -> Result<Report> {
    let bar = ProgressBar::bar();
    let found = runtime.block_on(verify(reader, references, store::readers(), |progress| {
        bar.update(progress)
    }));
    Ok(found?)
}

/// Copies a log into an empty store and displays the progress.
pub(super) fn copy_log(runtime: &Runtime, reader: &Reader, target: &Store) -> Result<Head> {
    let bar = ProgressBar::bar();
    Ok(runtime.block_on(copy(reader, target, |progress| bar.update(progress)))?)
}

/// The store URL of an SQLite file.
pub(super) fn url(path: &Path) -> Result<String> {
    let path = path
        .to_str()
        .with_context(|| format!("{}: the path is not UTF-8", path.display()))?;
    Ok(format!("sqlite:{path}"))
}

/// An unfinished file: `commit` links it to its final name, and it is removed on drop.
struct PartialFile {
    path: PathBuf,
}

impl PartialFile {
    fn new(wanted: &Path) -> Result<Self> {
        let path = with_suffix(wanted, ".partial");
        if path.exists() {
            bail!(
                "{} already exists: remove it, unless another backup is running",
                path.display()
            );
        }
        Ok(Self { path })
    }

    fn commit(self, wanted: &Path) -> Result<()> {
        let cannot = || format!("cannot write {}", wanted.display());
        File::open(&self.path)
            .and_then(|file| file.sync_all())
            .with_context(cannot)?;
        // Unlike a rename, a hard link never replaces a file.
        fs::hard_link(&self.path, wanted).with_context(cannot)?;
        let parent = wanted.parent().filter(|parent| !parent.as_os_str().is_empty());
        let sync = File::open(parent.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
        sync.with_context(cannot)
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        for suffix in ["", ".lock", "-wal", "-shm", "-journal"] {
            let path = with_suffix(&self.path, suffix);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "cannot remove a temporary file");
                }
                _ => {}
            }
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
