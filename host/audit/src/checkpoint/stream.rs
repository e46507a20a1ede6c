//! Notes one after another, as the file outside the log keeps them.
//!
//! Each note is followed by a blank line. The file only grows: a write that was cut short, by a full disk or a crash,
//! stays where it is, and the next one begins after a blank line. So a reader finds pieces that are no notes, and goes
//! on behind them.

use super::{Note, NoteError};

/// The notes of a text. What is no note comes as an error, and the next one follows.
#[derive(Debug, Clone)]
pub struct Notes<'a> {
    blocks: std::iter::Peekable<Blocks<'a>>,
}

/// Where lines of signatures begin.
const DASH: &str = "\u{2014} ";

impl<'a> Notes<'a> {
    /// Reads a text.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        Self {
            blocks: Blocks(text).peekable(),
        }
    }
}

impl Iterator for Notes<'_> {
    type Item = Result<Note, NoteError>;

    fn next(&mut self) -> Option<Self::Item> {
        let body = self.blocks.next()?;
        match self
            .blocks
            .next_if(|next| next.starts_with(DASH) && !body.starts_with(DASH))
        {
            Some(signatures) => Some(Note::parse(&format!("{body}\n\n{signatures}\n"))),
            None => Some(Err(NoteError::Form)),
        }
    }
}

/// What stands between blank lines, without the newline at its end.
#[derive(Debug, Clone)]
struct Blocks<'a>(&'a str);

impl<'a> Iterator for Blocks<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.0 = self.0.trim_start_matches('\n');
        if self.0.is_empty() {
            return None;
        }
        let (block, rest) = self.0.split_once("\n\n").unwrap_or((self.0, ""));
        self.0 = rest;
        Some(block.trim_end_matches('\n'))
    }
}
