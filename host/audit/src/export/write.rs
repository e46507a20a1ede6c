//! Writes exports.

use std::io::{self, Write};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::line::{CheckpointLine, EndLine, EventLine, FORMAT, Header, Line, ManifestLine};
use crate::read::{ReadError, Reader, StoredEvent};
use crate::verify::{ManifestRow, Progress, StoredNote};
use crate::{Hash, Head, Note, Time};

/// The number of events read at a time.
const CHUNK: u64 = 4096;

/// Exporting a log failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The export cannot be written.
    #[error("the export cannot be written: {0}")]
    Write(#[from] io::Error),
    /// A row of `manifest_signatures` is malformed.
    #[error("a row of manifest_signatures cannot be read: run `postern audit verify`")]
    InvalidManifestRow,
}

/// The range of events to export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first event; 1 for a whole log.
    pub first: u64,
    /// The last event; `None` for all that follow.
    pub last: Option<u64>,
}

/// Exports a log, or a part of it, as it is now, and returns the last event. Calls `on_progress` after each chunk. Nothing
/// is verified: the reader of the export does that.
///
/// # Errors
/// If the log cannot be read, or the export cannot be written.
pub async fn export(
    reader: &Reader,
    range: Range,
    out: impl Write,
    created: Time,
    mut on_progress: impl FnMut(Progress),
) -> Result<Head, ExportError> {
    let first = range.first.max(1);
    let whole = first == 1 && range.last.is_none();
    let last_note = reader.last_note().await?;
    let last_size = last_note.as_ref().map(|note| note.size);
    let mut head = reader.head_at((first - 1).min(end(reader).await?)).await?;
    let mut lines = Lines::new(out);
    lines.write(&Line::Header(Header {
        format: FORMAT.to_owned(),
        created,
        origin: last_note.and_then(|note| Some(Note::parse(&note.text).ok()?.checkpoint.origin)),
        predecessor: head.into(),
        manifests: whole,
    }))?;
    let end = end(reader).await?;
    let last = range.last.map_or(end, |last| last.min(end));
    if whole {
        // Each is committed with the event that records it, so those of the exported events exist by now.
        reader.manifests(last, |row| lines.manifest(row)).await?;
    }
    if first == 1 {
        lines.notes(&reader.notes(i64::MIN, 0).await?)?;
    }
    let mut from = first;
    while from <= last {
        let to = last.min(from + CHUNK - 1);
        let notes = reader.notes(i64::try_from(from).unwrap_or(i64::MAX), to).await?;
        let mut notes = notes.as_slice();
        for event in reader.between(from, to).await? {
            lines.event(&event)?;
            let covered = notes.partition_point(|note| note.size <= event.entry.seq);
            let (due, later) = notes.split_at_checked(covered).unwrap_or((notes, &[]));
            lines.notes(due)?;
            notes = later;
            (head.size, head.hash) = (event.entry.seq, event.entry.hash);
        }
        lines.notes(notes)?;
        on_progress(Progress {
            done: to + 1 - first,
            total: last + 1 - first,
        });
        from = to + 1;
    }
    if range.last.is_none() {
        // Checkpoints that existed before the events were read and cover more events than there are: the tail was cut off,
        // and the export must not hide it.
        let most = last_size.unwrap_or(0);
        lines.notes(&reader.notes_beyond(last, most).await?)?;
    }
    reader.check_unchanged()?;
    lines.end(head)?;
    Ok(head)
}

async fn end(reader: &Reader) -> Result<u64, ReadError> {
    Ok(reader.extent().await?.map_or(0, |extent| extent.last))
}

/// Writes lines, and counts and digests them.
struct Lines<W> {
    out: W,
    digest: Sha256,
    number: u64,
    line: Vec<u8>,
}

impl<W: Write> Lines<W> {
    fn new(out: W) -> Self {
        Self {
            out,
            digest: Sha256::new(),
            number: 0,
            line: Vec::new(),
        }
    }

    fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, line)?;
        self.line.push(b'\n');
        self.digest.update(&self.line);
        self.number += 1;
        self.out.write_all(&self.line)
    }

    fn event(&mut self, event: &StoredEvent) -> io::Result<()> {
        let entry = &event.entry;
        self.write(&Line::Event(EventLine {
            seq: entry.seq,
            hash: entry.hash,
            payload: entry.payload.as_str().into(),
        }))
    }

    fn notes(&mut self, notes: &[StoredNote]) -> io::Result<()> {
        for note in notes {
            self.write(&Line::Checkpoint(CheckpointLine {
                size: note.size,
                note: note.text.clone(),
            }))?;
        }
        Ok(())
    }

    fn manifest(&mut self, row: ManifestRow) -> Result<(), ExportError> {
        let line = ManifestLine::of(row).ok_or(ExportError::InvalidManifestRow)?;
        Ok(self.write(&Line::ManifestSignature(line))?)
    }

    fn end(mut self, head: Head) -> io::Result<()> {
        let end = EndLine {
            size: head.size,
            hash: head.hash,
            lines: self.number,
            sha256: Hash(self.digest.clone().finalize().into()),
        };
        self.write(&Line::End(end))?;
        self.out.flush()
    }
}
