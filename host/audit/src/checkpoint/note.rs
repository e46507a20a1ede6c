//! A checkpoint with its signatures.

use std::fmt;

use ed25519_compact::PublicKey;

use super::Checkpoint;

/// The algorithm's number in a key id: Ed25519.
const ED25519: u8 = 1;

/// A text that is not a checkpoint, or a signature that does not fit it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a signed note.
    #[error("not a signed note: a text, a blank line and lines of signatures")]
    Form,
    /// A note about something else.
    #[error("not a checkpoint of an audit log: {0}")]
    Body(&'static str),
    /// No signature of a form that is known here: Ed25519 has 64 bytes.
    #[error("no Ed25519 signature")]
    Unsigned,
    /// A name that a line of a signature cannot hold.
    #[error("a signer's name is not empty and has neither blanks nor `+`")]
    Name,
}

/// A signature under a checkpoint, not verified yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature {
    /// Who claims to have signed: the signer id.
    pub name: String,
    /// Hints at the key: see [`key_id`].
    pub key_id: u32,
    /// An Ed25519 signature (RFC 8032) of the body.
    pub signature: [u8; 64],
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({} {:08x})", self.name, self.key_id)
    }
}

impl Signature {
    /// A signature by a key.
    #[must_use]
    pub fn new(name: impl Into<String>, public_key: &[u8; 32], signature: [u8; 64]) -> Self {
        let name = name.into();
        Self {
            key_id: key_id(&name, public_key),
            name,
            signature,
        }
    }

    /// Whether its key id is this key's. One that is not is by another key of the same name, or of nobody's.
    #[must_use]
    pub fn names(&self, public_key: &[u8; 32]) -> bool {
        self.key_id == key_id(&self.name, public_key)
    }

    /// Whether this key made it over this body. The key id must be the key's too.
    #[must_use]
    pub fn verifies(&self, public_key: &[u8; 32], body: &str) -> bool {
        let signature = ed25519_compact::Signature::new(self.signature);
        self.names(public_key) && PublicKey::new(*public_key).verify(body, &signature).is_ok()
    }
}

/// The first four bytes of SHA-256 over the name, a newline, the algorithm's number (1) and the key
/// (<https://c2sp.org/signed-note>), read as a big-endian number.
#[must_use]
pub fn key_id(name: &str, public_key: &[u8; 32]) -> u32 {
    let mut key = [ED25519; 33];
    if let Some((_, rest)) = key.split_first_mut() {
        rest.copy_from_slice(public_key);
    }
    signed_note::key_id(name, &key)
}

/// A checkpoint with its signatures, which nobody verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What was signed; its text is [`Checkpoint::body`].
    pub checkpoint: Checkpoint,
    /// By whom; at least one.
    pub signatures: Vec<Signature>,
}

impl Note {
    /// Puts a checkpoint and its signatures together.
    ///
    /// # Errors
    /// If there is no signature, or one has a name that cannot be written.
    pub fn new(checkpoint: Checkpoint, signatures: Vec<Signature>) -> Result<Self, NoteError> {
        if signatures.is_empty() {
            return Err(NoteError::Unsigned);
        }
        if !signatures.iter().all(|s| signed_note::is_key_name_valid(&s.name)) {
            return Err(NoteError::Name);
        }
        Ok(Self {
            checkpoint,
            signatures,
        })
    }

    /// Reads a note. Signatures of other algorithms, such as a witness's, are left out.
    ///
    /// # Errors
    /// If it is no signed note, no checkpoint, or has no Ed25519 signature.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        // It is read once as the standard has it, which bounds it too; of the signatures, what the standard's
        // reader gives back is kept.
        let note = signed_note::Note::from_bytes(text.as_bytes()).map_err(|_| NoteError::Form)?;
        let body = std::str::from_utf8(note.text()).map_err(|_| NoteError::Form)?;
        let checkpoint = Checkpoint::parse(body)?;
        let signatures = text
            .strip_prefix(body)
            .unwrap_or_default()
            .lines()
            .filter_map(|line| signed_note::Signature::from_bytes(line.as_bytes()).ok())
            .filter_map(|line| {
                Some(Signature {
                    name: line.name().to_owned(),
                    key_id: line.id(),
                    signature: line.signature().try_into().ok()?,
                })
            })
            .collect();
        Self::new(checkpoint, signatures)
    }
}

impl fmt::Display for Note {
    /// The text of the note, ended by a newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.checkpoint.body())?;
        for signature in &self.signatures {
            let line = signed_note::Signature::new(
                signature.name.clone(),
                signature.key_id,
                signature.signature.to_vec(),
            )
            .map_err(|_| fmt::Error)?;
            f.write_str(&String::from_utf8_lossy(&line.to_bytes()))?;
        }
        Ok(())
    }
}
