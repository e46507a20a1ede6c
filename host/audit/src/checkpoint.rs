//! Checkpoints: what the end of the log was at a moment, signed and kept outside the log.
//!
//! A chain of hashes shows that nothing within it was changed. That its tail was cut, or that all of it was replaced
//! by another chain, shows only against a head kept elsewhere. A checkpoint is such a head as a C2SP signed note
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
//! The hash is the head of a chain, not the root of a Merkle tree; the origin is of this log alone.

mod note;
mod stream;

use std::fmt::Write as _;

use ct_codecs::{Base64, Decoder as _, Encoder as _};

use crate::{Hash, Time};

pub use note::{Note, NoteError, Signature, key_id};
pub use stream::Notes;

/// The head of a log at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Names the log: the first line.
    pub origin: String,
    /// How many events the log had.
    pub size: u64,
    /// The hash of the last of them.
    pub hash: Hash,
    /// When the checkpoint was made, by the host's clock.
    pub time: Time,
}

/// What stands before the time.
const TIME: &str = "time ";

impl Checkpoint {
    /// The most bytes of an origin.
    pub const LONGEST_ORIGIN: usize = 256;

    /// Whether a text can be the first line: not empty, one line, no blank at its ends.
    #[must_use]
    pub fn is_origin(text: &str) -> bool {
        let fits = !text.is_empty() && text.len() <= Self::LONGEST_ORIGIN;
        fits && text.trim() == text && !text.chars().any(char::is_control)
    }

    /// The text that is signed: four lines, each ended by a newline.
    #[must_use]
    pub fn body(&self) -> String {
        let mut hash = [0; 44];
        // 32 bytes are 44 digits of Base64.
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

    /// Reads such a text. Only what [`Checkpoint::body`] writes is read, so that one checkpoint has one form.
    ///
    /// # Errors
    /// [`NoteError::Body`] with the first line that is not as it should be.
    pub fn parse(body: &str) -> Result<Self, NoteError> {
        let mut lines = body.lines();
        let origin = lines.next().unwrap_or_default().to_owned();
        if !Self::is_origin(&origin) {
            return Err(NoteError::Body("the first line names no log"));
        }
        let size = lines.next().and_then(|line| line.parse().ok());
        let size = size.ok_or(NoteError::Body("the second line is not a number of events"))?;
        let hash = lines.next().and_then(hash);
        let hash = hash.ok_or(NoteError::Body("the third line is not 32 bytes in Base64"))?;
        let time = lines.next().and_then(|line| line.strip_prefix(TIME));
        let time = time.and_then(Time::parse);
        let time = time.ok_or(NoteError::Body(
            "the fourth line is not `time` and a time in RFC 3339 (UTC)",
        ))?;
        let read = Self {
            origin,
            size,
            hash,
            time,
        };
        if read.body() == body {
            Ok(read)
        } else {
            Err(NoteError::Body("it is not written as this program writes it"))
        }
    }
}

fn hash(line: &str) -> Option<Hash> {
    let mut bytes = [0; 32];
    let read = Base64::decode(&mut bytes, line, None).ok()?.len();
    (read == bytes.len()).then_some(Hash(bytes))
}

#[cfg(test)]
mod tests;
