//! What is wrong with a log, and what is only worth knowing.

use std::fmt;

use serde::Serialize;

use crate::{Hash, Kind, Time};

/// What is wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Events are missing: deleted.
    EventMissing,
    /// An event stands where another belongs.
    EventOutOfOrder,
    /// There are rows that have no place: their number is none.
    EventExtra,
    /// Two events have one id.
    EventDuplicate,
    /// A payload is not what was hashed.
    PayloadChanged,
    /// A payload is not the canonical form of a record.
    PayloadMalformed,
    /// The payload has another sequence number than its place: swapped, moved or renumbered.
    SeqDiffers,
    /// The payload has another id than its row.
    IdDiffers,
    /// An event does not follow the one before it: one of them was inserted or replaced.
    LinkBroken,
    /// An event was recorded before the one before it: the clock was rolled back.
    ClockBack,
    /// Something that was signed or kept counts more events than there are: the tail was cut.
    TailMissing,
    /// At the size of something that was signed or kept stands another hash: the log was rewritten or replaced.
    LogReplaced,
    /// A checkpoint is no signed note.
    CheckpointMalformed,
    /// A checkpoint in the store stands under another size than its own.
    CheckpointMoved,
    /// A checkpoint is of another log.
    CheckpointOrigin,
    /// A checkpoint is older than the event it covers, or than the checkpoint before.
    CheckpointTime,
    /// The registry does not know who signed a checkpoint.
    CheckpointSignerUnknown,
    /// Who signed a checkpoint was not valid then: not yet, or not any more.
    CheckpointSignerNotValid,
    /// Who signed a checkpoint signs other things.
    CheckpointSignerUse,
    /// A checkpoint's key id is not that of its signer's key.
    CheckpointKeyId,
    /// A checkpoint's signature is wrong.
    CheckpointSignature,
    /// A checkpoint that is kept outside is not in the store.
    CheckpointMissing,
    /// A checkpoint that is kept outside is another one in the store.
    CheckpointDiffers,
    /// The registry does not know who signed a manifest.
    ManifestSignerUnknown,
    /// Who signed a manifest was not valid then.
    ManifestSignerNotValid,
    /// Who signed a manifest signs other things.
    ManifestSignerUse,
    /// The signature of a manifest is wrong.
    ManifestSignature,
    /// The signature of a manifest is another than its event tells of.
    ManifestDiffers,
    /// An event tells of the signature of a manifest, and there is none.
    ManifestMissing,
    /// No event tells of the signature of a manifest.
    ManifestUnrecorded,
    /// The line of an export is none.
    LineMalformed,
    /// An export is not the one that was written: cut, damaged or edited.
    ExportChanged,
}

impl Code {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::EventMissing => "event_missing",
            Self::EventOutOfOrder => "event_out_of_order",
            Self::EventExtra => "event_extra",
            Self::EventDuplicate => "event_duplicate",
            Self::PayloadChanged => "payload_changed",
            Self::PayloadMalformed => "payload_malformed",
            Self::SeqDiffers => "seq_differs",
            Self::IdDiffers => "id_differs",
            Self::LinkBroken => "link_broken",
            Self::ClockBack => "clock_back",
            Self::TailMissing => "tail_missing",
            Self::LogReplaced => "log_replaced",
            Self::CheckpointMalformed => "checkpoint_malformed",
            Self::CheckpointMoved => "checkpoint_moved",
            Self::CheckpointOrigin => "checkpoint_origin",
            Self::CheckpointTime => "checkpoint_time",
            Self::CheckpointSignerUnknown => "checkpoint_signer_unknown",
            Self::CheckpointSignerNotValid => "checkpoint_signer_not_valid",
            Self::CheckpointSignerUse => "checkpoint_signer_use",
            Self::CheckpointKeyId => "checkpoint_key_id",
            Self::CheckpointSignature => "checkpoint_signature",
            Self::CheckpointMissing => "checkpoint_missing",
            Self::CheckpointDiffers => "checkpoint_differs",
            Self::ManifestSignerUnknown => "manifest_signer_unknown",
            Self::ManifestSignerNotValid => "manifest_signer_not_valid",
            Self::ManifestSignerUse => "manifest_signer_use",
            Self::ManifestSignature => "manifest_signature",
            Self::ManifestDiffers => "manifest_differs",
            Self::ManifestMissing => "manifest_missing",
            Self::ManifestUnrecorded => "manifest_unrecorded",
            Self::LineMalformed => "line_malformed",
            Self::ExportChanged => "export_changed",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Something that is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The event where it shows; nothing, if it is about no event.
    pub seq: Option<u64>,
    /// What it is, for programs.
    pub code: Code,
    /// What it is, for people: one sentence without its full stop.
    pub detail: String,
}

impl Problem {
    pub(crate) fn at(seq: u64, code: Code, detail: String) -> Self {
        let seq = Some(seq);
        Self { seq, code, detail }
    }

    /// Events that are not there.
    pub(crate) fn missing(from: u64, to: u64) -> Self {
        let detail = if from == to {
            format!("event {from} is missing")
        } else {
            format!("events {from} to {to} are missing")
        };
        Self::at(from, Code::EventMissing, detail)
    }

    /// Rows that stand nowhere in the log.
    pub(crate) fn extra(rows: u64) -> Self {
        let detail = format!(
            "{rows} of the rows of audit_events have a `seq` that is no whole number: the table was made anew without its \
             constraints, and they were put into it"
        );
        Self {
            seq: None,
            code: Code::EventExtra,
            detail,
        }
    }

    pub(crate) fn unlinked(seq: u64, prev_hash: Hash, before: Hash) -> Self {
        let detail = if seq == 1 {
            format!("event 1 says that another came before it ({prev_hash}): what came before was removed")
        } else {
            format!(
                "event {seq} follows an event whose hash is {prev_hash}, but that of event {} is {before}: one of \
                 the two was inserted or replaced",
                seq - 1
            )
        };
        Self::at(seq, Code::LinkBroken, detail)
    }

    pub(crate) fn clock(seq: u64, recorded: Time, before: Time) -> Self {
        let detail = format!("event {seq} was recorded at {recorded}, before the one before it ({before})");
        Self::at(seq, Code::ClockBack, detail)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

/// An event that an auditor should know of though nothing is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Its place.
    pub seq: u64,
    /// `clock`: a host's clock went back; `lost`: events were lost.
    pub kind: Kind,
    /// Of `lost`, how many events.
    pub count: Option<u64>,
    /// When it was recorded.
    pub recorded: Time,
}
