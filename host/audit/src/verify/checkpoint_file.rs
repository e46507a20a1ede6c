//! Reading the external checkpoint file, and whether the file itself is intact.

use std::io::{self, BufRead, Read as _};

use serde::Serialize;

use crate::checkpoint::{Note, Notes};

/// The limit of one note, in bytes.
const MAX_NOTE: usize = 64 << 10;
/// The limit of incomplete notes that are listed.
const MAX_TORN: usize = 10;

/// What was found in an external checkpoint file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckpointFileReport {
    /// The number of checkpoints.
    pub checkpoints: u64,
    /// The number of incomplete checkpoints; an interrupted write leaves one.
    #[serde(skip)]
    pub pieces: u64,
    /// The approximate first lines of the first ten of those.
    pub torn: Vec<u64>,
    /// How the file ends.
    #[serde(flatten)]
    pub ending: Ending,
    /// The size of the log's last checkpoint, if the file has no checkpoint over that many events.
    pub short_of: Option<u64>,
}

/// How an external checkpoint file ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "ending", rename_all = "snake_case")]
pub enum Ending {
    /// With a complete checkpoint.
    Whole {
        /// The number of events that the largest checkpoint covers.
        size: u64,
    },
    /// With an incomplete checkpoint.
    Torn {
        /// The first line of the incomplete checkpoint.
        line: u64,
    },
    /// The file has no checkpoint.
    Empty,
}

impl Default for CheckpointFileReport {
    fn default() -> Self {
        Self {
            checkpoints: 0,
            pieces: 0,
            torn: Vec::new(),
            ending: Ending::Empty,
            short_of: None,
        }
    }
}

impl CheckpointFileReport {
    /// The number of events that the largest checkpoint covers.
    #[must_use]
    pub fn last_size(&self) -> u64 {
        match self.ending {
            Ending::Whole { size } => size,
            Ending::Torn { .. } | Ending::Empty => 0,
        }
    }

    /// Compares the file with the log's last checkpoint, which was made before the file was read.
    pub(crate) fn compare(&mut self, stored: u64) {
        if stored > self.last_size() {
            self.short_of = Some(stored);
        }
    }
}

/// Reads a stream of notes, and passes each complete note to `on_note`.
pub(crate) fn read(
    mut file: impl BufRead,
    mut on_note: impl FnMut(Note),
) -> io::Result<CheckpointFileReport> {
    let mut report = CheckpointFileReport::default();
    let (mut block, mut begins, mut line_number) = (Vec::new(), 1, 0);
    let (mut largest, mut in_signatures) = (0, false);
    let mut end_block = |report: &mut CheckpointFileReport, block: &[u8], begins: u64| {
        // Invalid UTF-8 becomes an incomplete checkpoint, like any other damage.
        for note in Notes::of(&String::from_utf8_lossy(block)) {
            match note {
                Ok(note) => {
                    largest = note.checkpoint.size.max(largest);
                    report.checkpoints += 1;
                    report.ending = Ending::Whole { size: largest };
                    on_note(note);
                }
                Err(_) => record_torn(report, begins),
            }
        }
    };
    loop {
        let before = block.len();
        let read = (&mut file).take(MAX_NOTE as u64).read_until(b'\n', &mut block)?;
        let line = block.get(before..).unwrap_or_default();
        line_number += 1;
        let ended = line.trim_ascii_end().is_empty() && in_signatures;
        in_signatures = line.starts_with("\u{2014}".as_bytes());
        if ended || read == 0 || block.len() > MAX_NOTE {
            end_block(&mut report, &block, begins);
            block.clear();
            begins = line_number + 1;
        }
        if read == 0 {
            return Ok(report);
        }
    }
}

/// Records an incomplete checkpoint.
fn record_torn(report: &mut CheckpointFileReport, line: u64) {
    report.pieces += 1;
    if report.torn.len() < MAX_TORN {
        report.torn.push(line);
    }
    // A file without any complete checkpoint is reported as empty: it is probably another file.
    if report.checkpoints > 0 {
        report.ending = Ending::Torn { line };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Checkpoint, Hash, Signature, Time};

    fn note(size: u64) -> String {
        let checkpoint = Checkpoint {
            origin: "a".into(),
            size,
            hash: Hash([1; 32]),
            time: Time::EPOCH,
        };
        let signature = Signature::new("kernel", &[2; 32], [3; 64]);
        format!("{}\n", Note::new(checkpoint, vec![signature]).unwrap())
    }

    fn of(text: &str) -> CheckpointFileReport {
        read(text.as_bytes(), |_| {}).unwrap()
    }

    #[test]
    fn the_ending_of_a_file_is_reported() {
        let two = note(10) + &note(20);
        assert_eq!(of(&two).ending, Ending::Whole { size: 20 });
        assert_eq!(of("").ending, Ending::Empty);
        let other = of("hello\n\nworld\n");
        assert_eq!((other.ending, other.checkpoints), (Ending::Empty, 0));
        assert!(!other.torn.is_empty());
        for cut in 1..note(30).len() - 2 {
            let torn = of(&(two.clone() + &start(&note(30), cut)));
            assert_eq!(torn.ending, Ending::Torn { line: 15 }, "{cut}");
            assert_eq!(torn.checkpoints, 2);
        }
        // Terminated by the next write.
        let continued = of(&format!("{two}{}\n\n{}", start(&note(30), 20), note(40)));
        assert_eq!(
            (continued.ending, continued.torn),
            (Ending::Whole { size: 40 }, vec![15])
        );
    }

    /// The first bytes of a text, cut at a character boundary.
    fn start(text: &str, bytes: usize) -> String {
        text.get(..text.floor_char_boundary(bytes)).unwrap().to_owned()
    }
}
