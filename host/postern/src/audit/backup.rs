//! `postern audit backup`: a copy of the log that is consistent, verified, and one file.

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
    after_help = "The log may be written to meanwhile: the backup holds it up to the event that was the last when it began, \
    with its checkpoints and the signatures of manifests, as a database of SQLite's in one file, also where the log is in \
    Postgres. The log and then the copy are verified; of a log in which something is wrong no backup is made: keep the \
    files themselves.\n\n\
    Exit codes: as of `postern audit verify`, of what was copied. With 4, too, the backup was made.\n\n\
    Examples:\n  \
    postern audit backup --store sqlite:/var/lib/postern/audit.db -o /backup/audit.db --signers signers.toml\n  \
    AUDIT_STORE_URL=postgres://auditor@db/audit postern audit backup -o /backup/audit.db --signers signers.toml"
)]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    #[command(flatten)]
    references: ReferenceArgs,
    /// Where to, a new file
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How to print what was found
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<Output> {
    if args.output.exists() {
        bail!(
            "{} is there already: a backup is a new file",
            args.output.display()
        );
    }
    let runtime = store::runtime()?;
    let reader = args.store.open(&runtime, store::readers())?;
    // Once: what is added to the file outside later is of events that are not copied.
    let references = args.references.read_beside(&runtime, &reader)?;
    let found = verify_log(&runtime, &reader, references.clone())?;
    if !found.is_intact() {
        let mut output = report::output(&found, None, args.references.requirements(), args.format)?;
        output.err = "no backup was made: keep the files of the log themselves\n".to_owned();
        return Ok(output);
    }
    let partial = PartialFile::new(&args.output)?;
    let head = copy_log(&runtime, &reader, &Store::Sqlite(partial.path.clone()))?;
    let copy = runtime.block_on(Reader::open(&url(&partial.path)?, 2))?;
    let again = verify_log(&runtime, &copy, references)?;
    drop(copy);
    if (again.size, again.hash) != (head.size, head.hash) || head.size < found.size {
        bail!("the copy is not what was copied: does the disk fail?");
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

/// Verifies a log.
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

/// Copies a log into an empty store.
pub(super) fn copy_log(runtime: &Runtime, reader: &Reader, target: &Store) -> Result<Head> {
    let bar = ProgressBar::bar();
    Ok(runtime.block_on(copy(reader, target, |progress| bar.update(progress)))?)
}

/// How a reader names a file.
pub(super) fn url(path: &Path) -> Result<String> {
    let path = path
        .to_str()
        .with_context(|| format!("{}: the name is not UTF-8", path.display()))?;
    Ok(format!("sqlite:{path}"))
}

/// A file that is not finished: it goes away unless it is kept.
struct PartialFile {
    path: PathBuf,
}

impl PartialFile {
    fn new(wanted: &Path) -> Result<Self> {
        let path = with_suffix(wanted, ".partial");
        if path.exists() {
            bail!(
                "{} is there already: remove it, unless a backup is under way",
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
        // Unlike renaming, this replaces nothing.
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
                    tracing::warn!(path = %path.display(), %error, "not removed");
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
