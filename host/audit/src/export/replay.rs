//! Verifies exports, without the database.

use std::io::{self, BufRead, Read as _};

use sha2::{Digest as _, Sha256};

use super::line::{EndLine, FORMAT, Header, Line};
use crate::verify::{Code, Problem, Report, Row, Segment, StoredNote, TrustedReferences, Verifier};
use crate::{Hash, Head};

/// The limit of a line, in bytes: enough for a payload in which every character is escaped.
const MAX_LINE: u64 = 16 << 20;
/// The number of events in a segment.
const SEGMENT: usize = 4096;

/// An export cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The export cannot be read.
    #[error("the export cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The input is not an export, or has an unknown format.
    #[error("not an export of an audit log: the first line is not a header of the format {FORMAT}")]
    NotAnExport,
}

/// Verifies an export. Calls `on_progress` with the number of verified events after each segment.
///
/// # Errors
/// If the input cannot be read, or does not begin with the header of an export. Problems of the log are not errors, but
/// part of the report.
pub fn replay(
    mut input: impl BufRead,
    references: TrustedReferences,
    mut on_progress: impl FnMut(u64),
) -> Result<(Header, Report), ReplayError> {
    let mut digest = Sha256::new();
    let mut line = Vec::new();
    read_line(&mut input, &mut line)?;
    let Ok(Line::Header(header)) = serde_json::from_slice(&line) else {
        return Err(ReplayError::NotAnExport);
    };
    if header.format != FORMAT || !is_canonical(&Line::Header(header.clone()), &line) {
        return Err(ReplayError::NotAnExport);
    }
    digest.update(&line);
    let mut replay = Replay::new(references, &header);
    let mut lines = 1;
    // Nothing precedes the first event of a log, and only an export from there on has all manifest signatures.
    let whole = header.predecessor.size == 0;
    if (whole && header.predecessor.head() != Head::EMPTY) || (header.manifests && !whole) {
        let detail =
            "the header claims a previous event for event 1, or manifest signatures for a partial export"
                .to_owned();
        replay.fail(Code::LineMalformed, detail)?;
        return Ok((header, replay.verifier.finish()?));
    }
    loop {
        let read = read_line(&mut input, &mut line)?;
        let intact = match parse(&line) {
            _ if read == 0 => replay.fail(
                Code::LineMalformed,
                "the export has no last line: it was truncated".into(),
            )?,
            Some(Line::End(end)) => {
                let rest = read_line(&mut input, &mut line)?;
                let sha256 = Hash(digest.clone().finalize().into());
                replay.end(&end, lines, sha256, rest)?
            }
            Some(Line::Header(_)) | None => {
                let detail = format!("line {} is not a line of an export", lines + 1);
                replay.fail(Code::LineMalformed, detail)?
            }
            Some(line) => replay.line(line, &mut on_progress)?,
        };
        if !intact {
            return Ok((header, replay.verifier.finish()?));
        }
        digest.update(&line);
        lines += 1;
    }
}

fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    input.take(MAX_LINE).read_until(b'\n', line)
}

/// Parses a line. Accepts only what the export writes, so that each line has exactly one form.
fn parse(text: &[u8]) -> Option<Line<'_>> {
    let line = serde_json::from_slice(text.strip_suffix(b"\n")?).ok()?;
    is_canonical(&line, text).then_some(line)
}

fn is_canonical(line: &Line<'_>, text: &[u8]) -> bool {
    let written = serde_json::to_vec(line);
    written.is_ok_and(|written| text.strip_suffix(b"\n") == Some(&written))
}

struct Replay {
    verifier: Verifier,
    segment: Segment,
    /// The checkpoints over events of the segment.
    notes: Vec<StoredNote>,
    /// The size of the last checkpoint so far.
    last_note: Option<u64>,
    /// Whether manifest signatures may still follow.
    manifests: bool,
}

/// The methods return false once reading on is useless.
impl Replay {
    fn new(references: TrustedReferences, header: &Header) -> Self {
        let mut verifier = Verifier::after(references, header.predecessor.head());
        if header.manifests {
            verifier.expect_manifests();
        }
        Self {
            segment: Segment::new(verifier.next()),
            verifier,
            notes: Vec::new(),
            last_note: None,
            manifests: header.manifests,
        }
    }

    fn line(&mut self, line: Line<'_>, on_progress: &mut impl FnMut(u64)) -> io::Result<bool> {
        match line {
            Line::Event(event) => {
                self.manifests = false;
                let last = self.segment.next() - 1;
                if let Some(size) = self.last_note.filter(|size| *size > last) {
                    let detail = format!("the checkpoint over {size} events does not follow event {size}");
                    return self.fail(Code::CheckpointMoved, detail);
                }
                if self.segment.len() >= SEGMENT {
                    if !self.flush()? {
                        return Ok(false);
                    }
                    on_progress(self.verifier.next() - 1);
                }
                let row = Row {
                    seq: event.seq,
                    id: None,
                    payload: event.payload.as_bytes(),
                    hash: &event.hash.0,
                };
                if self.segment.push(&row) {
                    Ok(true)
                } else {
                    self.flush()
                }
            }
            Line::Checkpoint(note) => {
                let last = self.segment.next() - 1;
                if note.size < last || self.last_note.is_some_and(|last| last >= note.size) {
                    let size = note.size;
                    let detail = format!("the checkpoint over {size} events does not follow event {size}");
                    return self.fail(Code::CheckpointMoved, detail);
                }
                self.last_note = Some(note.size);
                self.notes.push(StoredNote {
                    size: note.size,
                    text: note.note,
                });
                Ok(true)
            }
            Line::ManifestSignature(_) if !self.manifests => self.fail(
                Code::LineMalformed,
                "a manifest signature is in the wrong place: they precede all events of a whole log".into(),
            ),
            Line::ManifestSignature(signature) => match signature.into_row() {
                Some(row) => {
                    self.verifier.add_manifest(&row);
                    Ok(true)
                }
                None => self.fail(
                    Code::LineMalformed,
                    "a manifest signature is not valid Base64".into(),
                ),
            },
            Line::Header(_) | Line::End(_) => Ok(true),
        }
    }

    /// Verifies the segment so far, and begins the next one.
    fn flush(&mut self) -> io::Result<bool> {
        let next = self.segment.next();
        let segment = std::mem::replace(&mut self.segment, Segment::new(next));
        let intact = self.verifier.add_segment(segment, &self.notes)?;
        // Keep checkpoints over events that are still to come.
        let end = self.verifier.next() - 1;
        self.notes.retain(|note| note.size > end);
        Ok(intact)
    }

    fn end(&mut self, end: &EndLine, lines: u64, sha256: Hash, rest: usize) -> io::Result<bool> {
        if self.flush()? {
            self.verifier.add_notes_past_end(&self.notes);
            self.verifier.finish_manifests();
        }
        let head = self.verifier.end();
        let changed = if rest > 0 {
            "the export continues after its last line"
        } else if (end.size, end.hash) != (head.size, head.hash) {
            "the export does not end with the event in its last line"
        } else if (end.lines, end.sha256) != (lines, sha256) {
            "the lines of the export do not match the digest in its last line"
        } else {
            return Ok(false);
        };
        self.fail(Code::ExportChanged, changed.to_owned())
    }

    /// Reports a problem of the file itself, after the events read so far.
    fn fail(&mut self, code: Code, detail: String) -> io::Result<bool> {
        self.flush()?;
        let seq = Some(self.verifier.next());
        self.verifier.add_problem(Problem { seq, code, detail });
        Ok(false)
    }
}
