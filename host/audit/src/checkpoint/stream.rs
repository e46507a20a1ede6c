//! Streams of notes, as in the external checkpoint file.
//!
//! Each note is followed by a blank line. The file is append-only: an incomplete note, left by a full disk or a crash, stays
//! where it is, and the next one begins after a blank line. A reader skips incomplete notes.

use super::{Note, NoteError};

/// Iterates over the notes of a text. An incomplete note yields an error, and iteration continues after it.
#[derive(Debug, Clone)]
pub struct Notes<'a> {
    blocks: std::iter::Peekable<Blocks<'a>>,
}

/// The prefix of a signature line.
const DASH: &str = "\u{2014} ";

impl<'a> Notes<'a> {
    /// Iterates over the notes of `text`.
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
            None => Some(Err(NoteError::Malformed)),
        }
    }
}

/// Iterates over the blocks between blank lines, without their final newline.
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
