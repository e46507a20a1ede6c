//! `postern audit head`: prints the head of the log, for an auditor to keep.

use anyhow::Result;
use postern_audit::{Head, Note, Time};
use serde::Serialize;

use super::Format;
use super::store::{self, StoreArgs};
use crate::output::{Output, json};
use crate::style::Style;
use crate::text::printable;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    postern audit head --store sqlite:/var/lib/postern/audit.sqlite\n  \
    postern audit head --format json | jq -r .keep >> heads     and later:\n  \
    postern audit verify --signers signers.toml --head \"$(tail -1 heads)\"\n\n\
    Nothing is verified here. A head kept elsewhere proves later that the log was not cut or replaced since.")]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArgs,
    /// The output format
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Serialize)]
struct Document {
    keep: String,
    size: u64,
    hash: String,
    recorded: Option<Time>,
    checkpoint: Option<Checkpoint>,
}

#[derive(Serialize)]
struct Checkpoint {
    origin: String,
    size: u64,
    hash: String,
    time: Time,
    signers: Vec<String>,
}

pub(super) fn run(args: &Args) -> Result<Output> {
    let runtime = store::runtime()?;
    let reader = args.store.open(&runtime, 1)?;
    let (head, note) = runtime.block_on(async {
        Ok::<_, postern_audit::read::ReadError>((reader.head().await?, reader.last_note().await?))
    })?;
    let note = note.and_then(|stored| Note::parse(&stored.text).ok());
    let document = document(head, note);
    let out = match args.format {
        Format::Json => json(&document)?,
        Format::Text => text(&document, Style::stdout()),
    };
    Ok(Output {
        err: store::warning(&reader),
        ..Output::ok(out)
    })
}

fn document(head: Head, note: Option<Note>) -> Document {
    Document {
        keep: format!("{}:{}", head.size, head.hash),
        size: head.size,
        hash: head.hash.to_string(),
        recorded: (head.size > 0).then_some(head.recorded),
        checkpoint: note.map(|note| Checkpoint {
            origin: note.checkpoint.origin,
            size: note.checkpoint.size,
            hash: note.checkpoint.hash.to_string(),
            time: note.checkpoint.time,
            signers: note
                .signatures
                .into_iter()
                .map(|signature| signature.name)
                .collect(),
        }),
    }
}

fn text(document: &Document, style: Style) -> String {
    let recorded = match document.recorded {
        Some(recorded) => format!("recorded    {recorded}\n"),
        None => "the log is empty\n".to_owned(),
    };
    let checkpoint = match &document.checkpoint {
        Some(checkpoint) => format!(
            "checkpoint  over {} events of {}, created {}, signed by {}\n",
            checkpoint.size,
            printable(&checkpoint.origin),
            checkpoint.time,
            printable(&checkpoint.signers.join(", "))
        ),
        None => "checkpoint  none\n".to_owned(),
    };
    format!("{}\n{recorded}{checkpoint}", style.bold(&document.keep))
}
