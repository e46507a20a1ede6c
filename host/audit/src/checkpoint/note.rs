//! Signed notes: checkpoints with their signatures.

use std::fmt;

use ed25519_compact::PublicKey;

use super::Checkpoint;

/// The number of the algorithm in a key id.
const ED25519: u8 = 1;

/// A text that is not a signed checkpoint, or a note that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Not a signed note.
    #[error("not a signed note: expected a text, a blank line and signature lines")]
    Malformed,
    /// A signed note whose text is not a checkpoint.
    #[error("not a checkpoint of an audit log: {0}")]
    Body(&'static str),
    /// No signature of 64 bytes, the length of Ed25519.
    #[error("no Ed25519 signature")]
    NoSignature,
    /// A signer name that cannot be written into a signature line.
    #[error("invalid signer name: it must not be empty, and must contain neither white space nor `+`")]
    InvalidSignerName,
}

/// A signature of a note. It is not verified.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature {
    /// The claimed signer's id.
    pub name: String,
    /// A hint at the key: see [`key_id`].
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
    /// A signature by this key.
    #[must_use]
    pub fn new(name: impl Into<String>, public_key: &[u8; 32], signature: [u8; 64]) -> Self {
        let name = name.into();
        Self {
            key_id: key_id(&name, public_key),
            name,
            signature,
        }
    }

    /// Whether the key id is that of this key. Otherwise another key of the same name signed.
    #[must_use]
    pub fn has_key_id_of(&self, public_key: &[u8; 32]) -> bool {
        self.key_id == key_id(&self.name, public_key)
    }

    /// Verifies the signature over `body`, and that the key id is that of `public_key`.
    #[must_use]
    pub fn verifies(&self, public_key: &[u8; 32], body: &str) -> bool {
        let signature = ed25519_compact::Signature::new(self.signature);
        self.has_key_id_of(public_key) && PublicKey::new(*public_key).verify(body, &signature).is_ok()
    }
}

/// Computes a key id: the first four bytes of SHA-256 over the name, a newline, the algorithm's number (1) and the key, as
/// a big-endian number (<https://c2sp.org/signed-note>).
#[must_use]
pub fn key_id(name: &str, public_key: &[u8; 32]) -> u32 {
    let mut key = [ED25519; 33];
    if let Some((_, rest)) = key.split_first_mut() {
        rest.copy_from_slice(public_key);
    }
    signed_note::key_id(name, &key)
}

/// A checkpoint with its signatures. They are not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The checkpoint; [`Checkpoint::body`] is the signed text.
    pub checkpoint: Checkpoint,
    /// The signatures; at least one.
    pub signatures: Vec<Signature>,
}

impl Note {
    /// Combines a checkpoint and its signatures.
    ///
    /// # Errors
    /// If there is no signature, or the name of a signer is invalid.
    pub fn new(checkpoint: Checkpoint, signatures: Vec<Signature>) -> Result<Self, NoteError> {
        if signatures.is_empty() {
            return Err(NoteError::NoSignature);
        }
        if !signatures.iter().all(|s| signed_note::is_key_name_valid(&s.name)) {
            return Err(NoteError::InvalidSignerName);
        }
        Ok(Self {
            checkpoint,
            signatures,
        })
    }

    /// Parses a note. Signatures of other algorithms, such as a witness's, are skipped.
    ///
    /// # Errors
    /// If the text is not a signed note, not a checkpoint, or has no Ed25519 signature.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        // The library parses the note as a whole, which also bounds its size, and then each signature line.
        let note = signed_note::Note::from_bytes(text.as_bytes()).map_err(|_| NoteError::Malformed)?;
        let body = std::str::from_utf8(note.text()).map_err(|_| NoteError::Malformed)?;
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
    /// Formats the note, terminated by a newline.
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
