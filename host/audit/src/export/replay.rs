//! Verifying an export where its database is not.

use std::io::{self, BufRead, Read as _};

use sha2::{Digest as _, Sha256};

use super::line::{End, FORMAT, Header, Line};
use crate::verify::{Code, Problem, Report, Row, Segment, StoredNote, TrustedReferences, Verifier};
use crate::{Hash, Head};

/// The longest line, in bytes: a payload in which every character is escaped.
const LONGEST: u64 = 16 << 20;
/// How many events are put together at a time.
const PIECE: usize = 4096;

/// Why an export is not verified.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It cannot be read.
    #[error("the export cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is none, or of a form that is not known here.
    #[error("this is no export of an audit log: its first line is no header of the form {FORMAT}")]
    NoExport,
}

/// Verifies an export; `tell` hears how many events are done.
///
/// # Errors
/// If it cannot be read, or does not begin as an export does. That it is not whole is no error: the report says so.
pub fn replay(
    mut input: impl BufRead,
    against: TrustedReferences,
    mut tell: impl FnMut(u64),
) -> Result<(Header, Report), ReplayError> {
    let mut digest = Sha256::new();
    let mut line = Vec::new();
    read_line(&mut input, &mut line)?;
    let Ok(Line::Header(header)) = serde_json::from_slice(&line) else {
        return Err(ReplayError::NoExport);
    };
    if header.format != FORMAT || !is_as_written(&Line::Header(header.clone()), &line) {
        return Err(ReplayError::NoExport);
    }
    digest.update(&line);
    let mut replay = Replay::new(against, &header);
    let mut lines = 1;
    // What comes before the first event of all is nothing, and only an export from there on has all signatures.
    let whole = header.behind.size == 0;
    if (whole && header.behind.head() != Head::EMPTY) || (header.manifests && !whole) {
        let detail = "the header says that something comes before the first event".to_owned();
        replay.fail(Code::LineMalformed, detail)?;
        return Ok((header, replay.verifier.finish()?));
    }
    loop {
        let read = read_line(&mut input, &mut line)?;
        let go_on = match parse(&line) {
            _ if read == 0 => replay.fail(
                Code::LineMalformed,
                "the export has no last line: it was cut off".into(),
            )?,
            Some(Line::End(end)) => {
                let rest = read_line(&mut input, &mut line)?;
                let sha256 = Hash(digest.clone().finalize().into());
                replay.end(&end, lines, sha256, rest)?
            }
            Some(Line::Header(_)) | None => {
                let detail = format!("line {} is no line of an export", lines + 1);
                replay.fail(Code::LineMalformed, detail)?
            }
            Some(line) => replay.line(line, &mut tell)?,
        };
        if !go_on {
            return Ok((header, replay.verifier.finish()?));
        }
        digest.update(&line);
        lines += 1;
    }
}

fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    input.take(LONGEST).read_until(b'\n', line)
}

/// A line, if it is the very one that would be written: one document has one form.
fn parse(text: &[u8]) -> Option<Line<'_>> {
    let line = serde_json::from_slice(text.strip_suffix(b"\n")?).ok()?;
    is_as_written(&line, text).then_some(line)
}

fn is_as_written(line: &Line<'_>, text: &[u8]) -> bool {
    let written = serde_json::to_vec(line);
    written.is_ok_and(|written| text.strip_suffix(b"\n") == Some(&written))
}

struct Replay {
    verifier: Verifier,
    segment: Segment,
    /// The checkpoints over events of the stretch.
    notes: Vec<StoredNote>,
    /// The most events that a checkpoint so far is over.
    noted: Option<u64>,
    /// Whether signatures of manifests may come.
    manifests: bool,
}

/// Each returns whether there is any use in reading on.
impl Replay {
    fn new(against: TrustedReferences, header: &Header) -> Self {
        let mut verifier = Verifier::behind(against, header.behind.head());
        if header.manifests {
            verifier.expect_manifests();
        }
        Self {
            segment: Segment::new(verifier.next()),
            verifier,
            notes: Vec::new(),
            noted: None,
            manifests: header.manifests,
        }
    }

    fn line(&mut self, line: Line<'_>, tell: &mut impl FnMut(u64)) -> io::Result<bool> {
        match line {
            Line::Event(event) => {
                self.manifests = false;
                let last = self.segment.next() - 1;
                if let Some(size) = self.noted.filter(|size| *size > last) {
                    let detail =
                        format!("the checkpoint over {size} events does not stand behind event {size}");
                    return self.fail(Code::CheckpointMoved, detail);
                }
                if self.segment.len() >= PIECE {
                    if !self.flush()? {
                        return Ok(false);
                    }
                    tell(self.verifier.next() - 1);
                }
                let row = Row {
                    seq: event.seq,
                    id: None,
                    payload: event.payload.as_bytes(),
                    hash: &event.hash.0,
                };
                if self.segment.feed(&row) {
                    Ok(true)
                } else {
                    self.flush()
                }
            }
            Line::Checkpoint(note) => {
                let last = self.segment.next() - 1;
                if note.size < last || self.noted.is_some_and(|noted| noted >= note.size) {
                    let size = note.size;
                    let detail =
                        format!("the checkpoint over {size} events does not stand behind event {size}");
                    return self.fail(Code::CheckpointMoved, detail);
                }
                self.noted = Some(note.size);
                self.notes.push(StoredNote {
                    size: note.size,
                    text: note.note,
                });
                Ok(true)
            }
            Line::ManifestSignature(_) if !self.manifests => self.fail(
                Code::LineMalformed,
                "a signature of a manifest stands where none belongs: before all events of a whole log"
                    .into(),
            ),
            Line::ManifestSignature(signature) => match signature.row() {
                Some(row) => {
                    self.verifier.take_manifest(&row);
                    Ok(true)
                }
                None => self.fail(
                    Code::LineMalformed,
                    "a signature of a manifest is no Base64".into(),
                ),
            },
            Line::Header(_) | Line::End(_) => Ok(true),
        }
    }

    /// Verifies what has come so far.
    fn flush(&mut self) -> io::Result<bool> {
        let next = self.segment.next();
        let segment = std::mem::replace(&mut self.segment, Segment::new(next));
        let go_on = self.verifier.take(segment, &self.notes)?;
        // A checkpoint over events that have not come waits for them.
        let end = self.verifier.next() - 1;
        self.notes.retain(|note| note.size > end);
        Ok(go_on)
    }

    fn end(&mut self, end: &End, lines: u64, sha256: Hash, rest: usize) -> io::Result<bool> {
        if self.flush()? {
            self.verifier.take_beyond(&self.notes);
            self.verifier.take_no_more_manifests();
        }
        let head = self.verifier.end();
        let changed = if rest > 0 {
            "something follows the export's last line"
        } else if (end.size, end.hash) != (head.size, head.hash) {
            "the export does not end with the event that its last line names"
        } else if (end.lines, end.sha256) != (lines, sha256) {
            "the export's lines are not those that its last line digests"
        } else {
            return Ok(false);
        };
        self.fail(Code::ExportChanged, changed.to_owned())
    }

    /// What is wrong with the file itself, behind what was read of the log.
    fn fail(&mut self, code: Code, detail: String) -> io::Result<bool> {
        self.flush()?;
        let seq = Some(self.verifier.next());
        self.verifier.problem(Problem { seq, code, detail });
        Ok(false)
    }
}
