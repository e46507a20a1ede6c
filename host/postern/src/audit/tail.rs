//! `postern audit tail`: prints the last events, and follows new ones.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Result;
use postern_audit::read::{Reader, StoredEvent};
use tokio::runtime::Runtime;

use super::Format;
use super::events;
use super::store::{self, StoreArgs};
use crate::output::Output;
use crate::style::Style;

/// The interval between polls for new events.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// The maximum number of events per poll.
const BATCH: u64 = 1000;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern audit tail --store sqlite:/var/lib/postern/audit.sqlite\n  \
    postern audit tail -n 0 --follow --format json | jq .record.subject\n\n\
    A payload that does not match its hash is marked; `postern audit verify` verifies the whole log.")]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// The number of events
    #[arg(short = 'n', long = "lines", value_name = "N", default_value = "20", value_parser = clap::value_parser!(u32).range(..=100_000))]
    number: u32,
    /// Keep running and print new events
    #[arg(short, long)]
    follow: bool,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(args: &Args) -> Result<Output> {
    let runtime = store::runtime()?;
    let reader = args.store.open(&runtime, 1)?;
    let last = runtime.block_on(reader.last(args.number))?;
    let style = Style::stdout();
    if !args.follow {
        let lines = last.iter().map(|found| events::line(found, args.format, style));
        return Ok(Output {
            err: store::warning(&reader),
            ..Output::ok(lines.collect())
        });
    }
    let next = match last.last() {
        Some(found) => found.entry.seq + 1,
        None => runtime
            .block_on(reader.extent())?
            .map_or(1, |extent| extent.last + 1),
    };
    follow(&runtime, &reader, args.format, last, next)
}

/// Prints events until the output is closed.
fn follow(
    runtime: &Runtime,
    reader: &Reader,
    format: Format,
    first: Vec<StoredEvent>,
    next: u64,
) -> Result<Output> {
    let style = Style::stdout();
    let (mut found, mut next) = (first, next);
    loop {
        let lines: String = found
            .iter()
            .map(|found| events::line(found, format, style))
            .collect();
        let mut out = io::stdout().lock();
        match out.write_all(lines.as_bytes()).and_then(|()| out.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Output::ok(String::new())),
            written => written?,
        }
        drop(out);
        if found.len() < usize::try_from(BATCH).unwrap_or(usize::MAX) {
            std::thread::sleep(POLL_INTERVAL);
        }
        found = runtime.block_on(reader.between(next, next.saturating_add(BATCH - 1)))?;
        next = found.last().map_or(next, |found| found.entry.seq + 1);
    }
}
