//! Checkpoints: signed heads of the log, kept outside it.
//!
//! A hash chain shows that nothing within it was changed. That its tail was cut off, or that all of it was replaced by
//! another chain, shows only against a head that is kept elsewhere. A checkpoint is such a head as a C2SP signed note
//! (<https://c2sp.org/signed-note>, <https://c2sp.org/tlog-checkpoint>):
//!
//! ```text
//! postern.example/audit
//! 1000
//! <base64 of the SHA-256 of event 1000's payload>
//! time 2026-01-01T00:00:00.000000Z
//!
//! — kernel-2026 <base64 of the key id's 4 bytes and the signature's 64>
//! ```
//!
//! The hash is the head of a chain, not the root of a Merkle tree. Each log has its own origin.

mod note;
mod stream;

use std::fmt::Write as _;

use ct_codecs::{Base64, Decoder as _, Encoder as _};

use crate::{Hash, Time};

pub use note::{Note, NoteError, Signature, key_id};
pub use stream::Notes;

/// The head of a log at a point in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The name of the log: the first line.
    pub origin: String,
    /// The number of events that the checkpoint covers.
    pub size: u64,
    /// The hash of the last of these events.
    pub hash: Hash,
    /// When the checkpoint was made, by the host's clock.
    pub time: Time,
}

/// The prefix of the fourth line.
const TIME: &str = "time ";

impl Checkpoint {
    /// The limit of an origin, in bytes.
    pub const LONGEST_ORIGIN: usize = 256;

    /// Whether a string can be an origin: not empty, one line, no white space at its ends.
    #[must_use]
    pub fn is_origin(text: &str) -> bool {
        let fits = !text.is_empty() && text.len() <= Self::LONGEST_ORIGIN;
        fits && text.trim() == text && !text.chars().any(char::is_control)
    }

    /// The text that is signed: four lines, each terminated by a newline.
    #[must_use]
    pub fn body(&self) -> String {
        let mut hash = [0; 44];
        // 32 bytes are 44 characters of Base64.
        let hash = Base64::encode_to_str(&mut hash, self.hash.0).unwrap_or_default();
        let mut body = String::with_capacity(128);
        // Writing to a String cannot fail.
        let _ = write!(
            body,
            "{}\n{}\n{hash}\n{TIME}{}\n",
            self.origin, self.size, self.time
        );
        body
    }

    /// Parses a body. Accepts only what [`Checkpoint::body`] writes, so that each checkpoint has exactly one form.
    ///
    /// # Errors
    /// [`NoteError::Body`] with the first invalid line.
    pub fn parse(body: &str) -> Result<Self, NoteError> {
        let mut lines = body.lines();
        let origin = lines.next().unwrap_or_default().to_owned();
        if !Self::is_origin(&origin) {
            return Err(NoteError::Body("the first line is not an origin"));
        }
        let size = lines.next().and_then(|line| line.parse().ok());
        let size = size.ok_or(NoteError::Body("the second line is not a number of events"))?;
        let hash = lines.next().and_then(parse_hash);
        let hash = hash.ok_or(NoteError::Body("the third line is not 32 bytes in Base64"))?;
        let time = lines.next().and_then(|line| line.strip_prefix(TIME));
        let time = time.and_then(Time::parse);
        let time = time.ok_or(NoteError::Body(
            "the fourth line is not `time` with a timestamp in RFC 3339 (UTC)",
        ))?;
        let checkpoint = Self {
            origin,
            size,
            hash,
            time,
        };
        if checkpoint.body() == body {
            Ok(checkpoint)
        } else {
            Err(NoteError::Body("it is not written in its canonical form"))
        }
    }
}

fn parse_hash(line: &str) -> Option<Hash> {
    let mut bytes = [0; 32];
    let read = Base64::decode(&mut bytes, line, None).ok()?.len();
    (read == bytes.len()).then_some(Hash(bytes))
}

#[cfg(test)]
mod tests;
