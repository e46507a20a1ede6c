//! The file of checkpoints that is kept outside the store: what is in it, and whether it is whole itself.

use std::io::{self, BufRead, Read as _};

use serde::Serialize;

use crate::checkpoint::{Note, Notes};

/// The most bytes without an end of a note.
const LONGEST: usize = 64 << 10;
/// The most torn pieces that are listed.
const MOST: usize = 10;

/// What the file was like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outside {
    /// How many checkpoints it has.
    pub checkpoints: u64,
    /// How many pieces of it are no checkpoints; a write that was cut short leaves one.
    #[serde(skip)]
    pub pieces: u64,
    /// Near which lines those begin: the first ten.
    pub torn: Vec<u64>,
    /// How it ends.
    #[serde(flatten)]
    pub ending: Ending,
    /// The log has a checkpoint of its own over so many events, and the file none over so many.
    pub short_of: Option<u64>,
}

/// How a file of checkpoints ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "ending", rename_all = "snake_case")]
pub enum Ending {
    /// With a checkpoint; the one over the most events is over this many.
    Whole {
        /// How many events.
        size: u64,
    },
    /// With a piece that is no checkpoint.
    Torn {
        /// Where the piece begins.
        line: u64,
    },
    /// There is no checkpoint in it.
    Empty,
}

impl Default for Outside {
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

impl Outside {
    /// The most events that a checkpoint of the file is over.
    #[must_use]
    pub fn last(&self) -> u64 {
        match self.ending {
            Ending::Whole { size } => size,
            Ending::Torn { .. } | Ending::Empty => 0,
        }
    }

    /// Notes that the log itself has a checkpoint over so many events, which was there before the file was read.
    pub(crate) fn compare(&mut self, stored: u64) {
        if stored > self.last() {
            self.short_of = Some(stored);
        }
    }
}

/// Reads such a file: notes one after another. Each whole note is handed over.
pub(crate) fn read(mut file: impl BufRead, mut take: impl FnMut(Note)) -> io::Result<Outside> {
    let mut outside = Outside::default();
    let (mut piece, mut begins, mut line_number) = (Vec::new(), 1, 0);
    let (mut largest, mut in_signatures) = (0, false);
    let mut end = |outside: &mut Outside, piece: &[u8], begins: u64| {
        // Bytes that are no text are a piece that is no checkpoint, as any other damage.
        for note in Notes::of(&String::from_utf8_lossy(piece)) {
            match note {
                Ok(note) => {
                    largest = note.checkpoint.size.max(largest);
                    outside.checkpoints += 1;
                    outside.ending = Ending::Whole { size: largest };
                    take(note);
                }
                Err(_) => tear(outside, begins),
            }
        }
    };
    loop {
        let before = piece.len();
        let read = (&mut file).take(LONGEST as u64).read_until(b'\n', &mut piece)?;
        let line = piece.get(before..).unwrap_or_default();
        line_number += 1;
        let ended = line.trim_ascii_end().is_empty() && in_signatures;
        in_signatures = line.starts_with("\u{2014}".as_bytes());
        if ended || read == 0 || piece.len() > LONGEST {
            end(&mut outside, &piece, begins);
            piece.clear();
            begins = line_number + 1;
        }
        if read == 0 {
            return Ok(outside);
        }
    }
}

/// Notes a piece that is no checkpoint.
fn tear(outside: &mut Outside, line: u64) {
    outside.pieces += 1;
    if outside.torn.len() < MOST {
        outside.torn.push(line);
    }
    // A file in which nothing is a checkpoint does not end with a torn one: it is another file.
    if outside.checkpoints > 0 {
        outside.ending = Ending::Torn { line };
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

    fn of(text: &str) -> Outside {
        read(text.as_bytes(), |_| {}).unwrap()
    }

    #[test]
    fn a_file_says_how_it_ends() {
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
        // Closed off by the next write.
        let gone_on = of(&format!("{two}{}\n\n{}", start(&note(30), 20), note(40)));
        assert_eq!(
            (gone_on.ending, gone_on.torn),
            (Ending::Whole { size: 40 }, vec![15])
        );
    }

    /// The first bytes of a text, without half a character.
    fn start(text: &str, bytes: usize) -> String {
        text.get(..text.floor_char_boundary(bytes)).unwrap().to_owned()
    }
}
