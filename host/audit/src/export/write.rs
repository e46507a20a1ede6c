//! Writing an export.

use std::io::{self, Write};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::line::{Checkpoint, End, Event, FORMAT, Header, Line, ManifestSignature};
use crate::read::{Found, ReadError, Reader};
use crate::verify::{ManifestRow, Progress, StoredNote};
use crate::{Hash, Head, Note, Time};

/// How many events are read at a time.
const PIECE: u64 = 4096;

/// Why a log is not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The export cannot be written.
    #[error("the export cannot be written: {0}")]
    Write(#[from] io::Error),
    /// A signature of a manifest that is none.
    #[error("a row of manifest_signatures cannot be read: run `postern audit verify`")]
    Manifest,
}

/// Which events are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first; 1 for a whole log.
    pub first: u64,
    /// The last, if not all that follow.
    pub last: Option<u64>,
}

/// Writes a log, or a part of it, as it is now; returns its last event. Nothing is verified: that is for whoever
/// reads it.
///
/// # Errors
/// If the log cannot be read or the export not be written.
pub async fn export(
    reader: &Reader,
    range: Range,
    out: impl Write,
    created: Time,
    mut tell: impl FnMut(Progress),
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
        behind: head.into(),
        manifests: whole,
    }))?;
    let end = end(reader).await?;
    let last = range.last.map_or(end, |last| last.min(end));
    if whole {
        // Each is written with the event that tells of it, so those of the events that are exported are there by now.
        reader.manifests(last, |row| lines.manifest(row)).await?;
    }
    if first == 1 {
        lines.notes(&reader.notes(i64::MIN, 0).await?)?;
    }
    let mut from = first;
    while from <= last {
        let to = last.min(from + PIECE - 1);
        let notes = reader.notes(i64::try_from(from).unwrap_or(i64::MAX), to).await?;
        let mut notes = notes.as_slice();
        for found in reader.between(from, to).await? {
            lines.event(&found)?;
            let over = notes.partition_point(|note| note.size <= found.entry.seq);
            let (due, later) = notes.split_at_checked(over).unwrap_or((notes, &[]));
            lines.notes(due)?;
            notes = later;
            (head.size, head.hash) = (found.entry.seq, found.entry.hash);
        }
        lines.notes(notes)?;
        tell(Progress {
            done: to + 1 - first,
            total: last + 1 - first,
        });
        from = to + 1;
    }
    if range.last.is_none() {
        // Those that were there before the events were read and are over more of them: the tail was cut, and the export must
        // not hide it.
        let most = last_size.unwrap_or(0);
        lines.notes(&reader.notes_beyond(last, most).await?)?;
    }
    reader.is_settled()?;
    lines.end(head)?;
    Ok(head)
}

async fn end(reader: &Reader) -> Result<u64, ReadError> {
    Ok(reader.extent().await?.map_or(0, |extent| extent.last))
}

/// Lines, counted and digested.
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

    fn event(&mut self, found: &Found) -> io::Result<()> {
        let entry = &found.entry;
        self.write(&Line::Event(Event {
            seq: entry.seq,
            hash: entry.hash,
            payload: entry.payload.as_str().into(),
        }))
    }

    fn notes(&mut self, notes: &[StoredNote]) -> io::Result<()> {
        for note in notes {
            self.write(&Line::Checkpoint(Checkpoint {
                size: note.size,
                note: note.text.clone(),
            }))?;
        }
        Ok(())
    }

    fn manifest(&mut self, row: ManifestRow) -> Result<(), ExportError> {
        let line = ManifestSignature::of(row).ok_or(ExportError::Manifest)?;
        Ok(self.write(&Line::ManifestSignature(line))?)
    }

    fn end(mut self, head: Head) -> io::Result<()> {
        let end = End {
            size: head.size,
            hash: head.hash,
            lines: self.number,
            sha256: Hash(self.digest.clone().finalize().into()),
        };
        self.write(&Line::End(end))?;
        self.out.flush()
    }
}
