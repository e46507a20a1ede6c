//! `postern audit replay`: verifies an export without its database.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use anyhow::{Context as _, Result};
use postern_audit::export::replay;

use super::Format;
use super::progress::ProgressBar;
use super::references::ReferenceArgs;
use super::report;
use crate::input;
use crate::output::Output;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 intact, and proven as far as reported; 2 tampered with, or the file is damaged; 3 unreadable \
    file or bad usage; 4 no error was found, but the log is not proven, as for `postern audit verify`.\n\n\
    Examples:\n  \
    postern audit replay log.jsonl --signers signers.toml\n  \
    zstd -dc log.jsonl.zst | postern audit replay - --signers signers.toml --head 12000:9f86d0…\n\n\
    To verify the hashes without this program, with jq and sha256sum:\n  \
    jq -r 'select(.event).event | .hash + \" \" + .payload' log.jsonl | while read -r hash payload; do \
    [ \"$(printf %s \"$payload\" | sha256sum)\" = \"$hash  -\" ] || echo \"not what was hashed: $payload\"; done"
)]
pub(crate) struct Args {
    /// The export; `-` reads standard input
    #[arg(value_name = "LOG.jsonl", default_value = "-")]
    file: String,
    #[command(flatten)]
    references: ReferenceArgs,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

pub(super) fn run(args: Args) -> Result<Output> {
    let references = args.references.read()?;
    let input: Box<dyn BufRead> = if args.file == "-" {
        Box::new(io::stdin().lock())
    } else {
        let file = File::open(Path::new(&args.file)).with_context(|| format!("cannot read {}", args.file))?;
        Box::new(BufReader::with_capacity(1 << 20, file))
    };
    let bar = ProgressBar::spinner();
    let found = replay(input, references, |done| bar.set_position(done));
    drop(bar);
    let (header, found) = found.with_context(|| input::display_name(&args.file).to_owned())?;
    report::output(&found, Some(&header), args.references.requirements(), args.format)
}
