//! The lines of an export.

use std::borrow::Cow;

use ct_codecs::{Base64, Decoder as _, Encoder as _};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::verify::ManifestRow;
use crate::{Hash, Head, Time};

/// The form that is written and read here.
pub(super) const FORMAT: &str = "postern-audit/1";

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line<'a> {
    #[serde(borrow)]
    Event(Event<'a>),
    Checkpoint(Checkpoint),
    ManifestSignature(ManifestSignature),
    End(End),
    Header(Header),
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The form of the lines.
    pub format: String,
    /// When the export was made.
    pub created: Time,
    /// The name of the log, if its checkpoints have one.
    pub origin: Option<String>,
    /// What the first event follows.
    pub behind: Behind,
    /// Whether the signatures of manifests are in it, as in that of a whole log.
    pub manifests: bool,
}

/// What the first event of an export follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Behind {
    /// The place of the event before; 0 before the first.
    pub size: u64,
    /// Its hash.
    pub hash: Hash,
    /// When it was recorded.
    pub recorded: Time,
}

impl Behind {
    pub(super) fn head(self) -> Head {
        Head {
            size: self.size,
            hash: self.hash,
            recorded: self.recorded,
        }
    }
}

impl From<Head> for Behind {
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
pub(super) struct Event<'a> {
    pub(super) seq: u64,
    pub(super) hash: Hash,
    #[serde(borrow)]
    pub(super) payload: Cow<'a, str>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkpoint {
    pub(super) size: u64,
    pub(super) note: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestSignature {
    id: Uuid,
    manifest_hash: Hash,
    signature_b64: String,
    signer_id: String,
    signed_at: String,
}

impl ManifestSignature {
    /// What a row says; nothing, if its columns hold what no row's do.
    pub(super) fn of(row: ManifestRow) -> Option<Self> {
        Some(Self {
            id: Uuid::from_slice(&row.id).ok()?,
            manifest_hash: Hash(row.manifest_hash.try_into().ok()?),
            signature_b64: Base64::encode_to_string(&row.signature).ok()?,
            signer_id: row.signer_id,
            signed_at: row.signed_at,
        })
    }

    pub(super) fn row(self) -> Option<ManifestRow> {
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
pub(super) struct End {
    pub(super) size: u64,
    pub(super) hash: Hash,
    /// How many lines stand before this one.
    pub(super) lines: u64,
    /// The digest of these lines, newlines included.
    pub(super) sha256: Hash,
}
