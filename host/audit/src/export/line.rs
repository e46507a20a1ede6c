//! The lines of an export.

use std::borrow::Cow;

use ct_codecs::{Base64, Decoder as _, Encoder as _};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::verify::ManifestRow;
use crate::{Hash, Head, Time};

/// The format that this version writes and reads.
pub(super) const FORMAT: &str = "postern-audit/1";

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line<'a> {
    #[serde(borrow)]
    Event(EventLine<'a>),
    Checkpoint(CheckpointLine),
    ManifestSignature(ManifestLine),
    End(EndLine),
    Header(Header),
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The format: `postern-audit/1`.
    pub format: String,
    /// When the export was made.
    pub created: Time,
    /// The origin of the log's last checkpoint, if there is one.
    pub origin: Option<String>,
    /// The event before the first one.
    #[serde(rename = "behind")]
    pub predecessor: Predecessor,
    /// Whether the export includes the manifest signatures, as that of a whole log does.
    pub manifests: bool,
}

/// The event before the first one of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Predecessor {
    /// The sequence number; 0 if there is no previous event.
    pub size: u64,
    /// The hash of the event.
    pub hash: Hash,
    /// When the event was recorded.
    pub recorded: Time,
}

impl Predecessor {
    pub(super) fn head(self) -> Head {
        Head {
            size: self.size,
            hash: self.hash,
            recorded: self.recorded,
        }
    }
}

impl From<Head> for Predecessor {
    fn from(head: Head) -> Self {
        Self {
            size: head.size,
            hash: head.hash,
            recorded: head.recorded,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventLine<'a> {
    pub(super) seq: u64,
    pub(super) hash: Hash,
    #[serde(borrow)]
    pub(super) payload: Cow<'a, str>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckpointLine {
    pub(super) size: u64,
    pub(super) note: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestLine {
    id: Uuid,
    manifest_hash: Hash,
    signature_b64: String,
    signer_id: String,
    signed_at: String,
}

impl ManifestLine {
    /// Returns `None` if a column of the row is malformed.
    pub(super) fn of(row: ManifestRow) -> Option<Self> {
        Some(Self {
            id: Uuid::from_slice(&row.id).ok()?,
            manifest_hash: Hash(row.manifest_hash.try_into().ok()?),
            signature_b64: Base64::encode_to_string(&row.signature).ok()?,
            signer_id: row.signer_id,
            signed_at: row.signed_at,
        })
    }

    pub(super) fn into_row(self) -> Option<ManifestRow> {
        Some(ManifestRow {
            id: self.id.as_bytes().to_vec(),
            manifest_hash: self.manifest_hash.0.to_vec(),
            signature: Base64::decode_to_vec(&self.signature_b64, None).ok()?,
            signer_id: self.signer_id,
            signed_at: self.signed_at,
        })
    }
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndLine {
    pub(super) size: u64,
    pub(super) hash: Hash,
    /// The number of lines before this one.
    pub(super) lines: u64,
    /// The digest of these lines, newlines included.
    pub(super) sha256: Hash,
}
