//! `postern audit backup`: a copy of the log that is consistent, verified, and one file.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use postern_audit::read::Reader;
use postern_audit::verify::{Report, TrustedReferences, verify};
use postern_audit::{Head, Store as Target, copy};
use tokio::runtime::Runtime;

use super::Format;
use super::bar::Bar;
use super::references::Given;
use super::report;
use super::store::{self, Store};
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
    store: Store,
    #[command(flatten)]
    given: Given,
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
    let against = args.given.beside(&runtime, &reader)?;
    let found = verified(&runtime, &reader, against.clone())?;
    if !found.is_whole() {
        let mut output = report::output(&found, None, args.given.demands(), args.format)?;
        output.err = "no backup was made: keep the files of the log themselves\n".to_owned();
        return Ok(output);
    }
    let partial = Partial::new(&args.output)?;
    let head = copied(&runtime, &reader, &Target::Sqlite(partial.path.clone()))?;
    let copy = runtime.block_on(Reader::open(&url(&partial.path)?, 2))?;
    let again = verified(&runtime, &copy, against)?;
    drop(copy);
    if (again.size, again.hash) != (head.size, head.hash) || head.size < found.size {
        bail!("the copy is not what was copied: does the disk fail?");
    }
    let mut output = report::output(&again, None, args.given.demands(), args.format)?;
    if output.exit != Exit::Denied {
        partial.keep(&args.output)?;
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
pub(super) fn verified(runtime: &Runtime, reader: &Reader, against: TrustedReferences) -> Result<Report> {
    let bar = Bar::known();
    let found = runtime.block_on(verify(reader, against, store::readers(), |progress| {
        bar.tell(progress)
    }));
    Ok(found?)
}

/// Copies a log into an empty store.
pub(super) fn copied(runtime: &Runtime, reader: &Reader, target: &Target) -> Result<Head> {
    let bar = Bar::known();
    Ok(runtime.block_on(copy(reader, target, |progress| bar.tell(progress)))?)
}

/// How a reader names a file.
pub(super) fn url(path: &Path) -> Result<String> {
    let path = path
        .to_str()
        .with_context(|| format!("{}: the name is not UTF-8", path.display()))?;
    Ok(format!("sqlite:{path}"))
}

/// A file that is not finished: it goes away unless it is kept.
struct Partial {
    path: PathBuf,
}

impl Partial {
    fn new(wanted: &Path) -> Result<Self> {
        let path = with(wanted, ".partial");
        if path.exists() {
            bail!(
                "{} is there already: remove it, unless a backup is under way",
                path.display()
            );
        }
        Ok(Self { path })
    }

    fn keep(self, wanted: &Path) -> Result<()> {
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

impl Drop for Partial {
    fn drop(&mut self) {
        for suffix in ["", ".lock", "-wal", "-shm", "-journal"] {
            let path = with(&self.path, suffix);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "not removed");
                }
                _ => {}
            }
        }
    }
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
