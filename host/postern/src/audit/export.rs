//! `postern audit export`: writes the log to a file.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use postern_audit::Time;
use postern_audit::export::{ExportError, Range, export};

use super::progress::ProgressBar;
use super::store::{self, StoreArgs};
use super::time_arg;
use crate::output::Output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Each line is a JSON document: a header, events with the exact text that was hashed, \
    checkpoints after the events that they cover, signatures of manifests, and an end with a digest of all lines. A partial \
    export names the hash of the event before its first one; only the whole log or a checkpoint proves that hash.\n\n\
    Examples:\n  \
    postern audit export --store sqlite:/var/lib/postern/audit.sqlite -o log.jsonl\n  \
    postern audit export --since 24h | zstd > day.jsonl.zst\n  \
    postern audit replay log.jsonl --signers signers.toml"
)]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// The output file, which must not exist; standard output by default
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The first event to export
    #[arg(long, value_name = "SEQ", conflicts_with = "since", value_parser = clap::value_parser!(u64).range(1..))]
    from_seq: Option<u64>,
    /// The last event to export
    #[arg(long, value_name = "SEQ", conflicts_with = "until", value_parser = clap::value_parser!(u64).range(1..))]
    to_seq: Option<u64>,
    /// Export events recorded at this time or later: 2026-01-01T00:00:00Z, or 1h for an hour ago
    #[arg(long, value_name = "TIME", value_parser = time_arg::parse)]
    since: Option<Time>,
    /// Export events recorded before this time
    #[arg(long, value_name = "TIME", value_parser = time_arg::parse)]
    until: Option<Time>,
}

pub(super) fn run(args: &Args) -> Result<Output> {
    let runtime = store::runtime()?;
    let reader = args.store.open(&runtime, 1)?;
    let range = runtime.block_on(async {
        let first = match args.since {
            Some(since) => reader.first_since(since).await?,
            None => args.from_seq.unwrap_or(1),
        };
        let last = match args.until {
            Some(until) => Some(reader.first_since(until).await? - 1),
            None => args.to_seq,
        };
        Ok::<_, postern_audit::read::ReadError>(Range { first, last })
    })?;
    if range.last.is_some_and(|last| last < range.first) {
        bail!("there is no event in that range");
    }
    let bar = ProgressBar::bar();
    let write = |out: &mut dyn Write| {
        let created = Time::of(SystemTime::now());
        runtime.block_on(export(&reader, range, out, created, |progress| {
            bar.update(progress)
        }))
    };
    let written = match &args.output {
        Some(path) => to_file(path, write)?,
        None => write(&mut BufWriter::new(io::stdout().lock())),
    };
    drop(bar);
    match written {
        // A closed pipe, as in `postern … | head -1`, is not an error.
        Err(ExportError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(Output::ok(String::new()))
        }
        Err(error) => Err(error.into()),
        Ok(head) => Ok(Output {
            err: format!(
                "{}exported up to event {}: keep {}:{}\n",
                store::warning(&reader),
                head.size,
                head.size,
                head.hash
            ),
            ..Output::ok(String::new())
        }),
    }
}

fn to_file<T>(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, ExportError>,
) -> Result<Result<T, ExportError>> {
    let cannot = || format!("cannot write {}", path.display());
    // An existing export is never overwritten.
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .with_context(cannot)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let written = write(&mut out);
    if written.is_ok() {
        let file = out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .with_context(cannot)?;
        file.sync_all().with_context(cannot)?;
    }
    Ok(written)
}
