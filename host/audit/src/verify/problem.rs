//! Problems and warnings.

use std::fmt;

use serde::Serialize;

use crate::{Hash, Kind, Time};

/// The code of a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Events are missing: they were deleted.
    EventMissing,
    /// An event has another sequence number than the next one.
    EventOutOfOrder,
    /// There are rows whose `seq` is not an integer.
    EventExtra,
    /// Two events have the same id.
    EventDuplicate,
    /// A payload does not match its hash.
    PayloadChanged,
    /// A payload is not the canonical form of a record.
    PayloadMalformed,
    /// The payload has another sequence number than its row: it was swapped, moved or renumbered.
    SeqDiffers,
    /// The payload has another id than its row.
    IdDiffers,
    /// An event does not hold the hash of the one before it: one of them was inserted or replaced.
    LinkBroken,
    /// An event has an earlier time than the one before it: the clock was rolled back.
    ClockBack,
    /// A checkpoint or trusted head covers more events than there are: the tail was cut off.
    TailMissing,
    /// A checkpoint or trusted head has another hash than the log: the log was rewritten or replaced.
    LogReplaced,
    /// A checkpoint is not a signed note.
    CheckpointMalformed,
    /// A checkpoint is stored under another size than its own.
    CheckpointMoved,
    /// A checkpoint is of another log.
    CheckpointOrigin,
    /// A checkpoint is older than the last event it covers, or than the previous checkpoint.
    CheckpointTime,
    /// The signer of a checkpoint is not in the registry.
    CheckpointSignerUnknown,
    /// The signer of a checkpoint was not valid at its time: not yet, or no longer.
    CheckpointSignerNotValid,
    /// The signer of a checkpoint is not registered for this use.
    CheckpointSignerUse,
    /// The key id of a checkpoint is not that of its signer's key.
    CheckpointKeyId,
    /// The signature of a checkpoint is invalid.
    CheckpointSignature,
    /// An external checkpoint is missing from the store.
    CheckpointMissing,
    /// An external checkpoint differs from the one in the store.
    CheckpointDiffers,
    /// The signer of a manifest is not in the registry.
    ManifestSignerUnknown,
    /// The signer of a manifest was not valid at its time.
    ManifestSignerNotValid,
    /// The signer of a manifest is not registered for this use.
    ManifestSignerUse,
    /// The signature of a manifest is invalid.
    ManifestSignature,
    /// The signature of a manifest differs from what its event records.
    ManifestDiffers,
    /// An event records a manifest signature that does not exist.
    ManifestMissing,
    /// No event records a manifest signature.
    ManifestUnrecorded,
    /// A line of an export is malformed, or in the wrong place.
    LineMalformed,
    /// An export is not as it was written: it was truncated, damaged or edited.
    ExportChanged,
}

impl Code {
    /// The name of the code, as in the JSON form of a report.
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

/// A problem of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The event where the problem shows; `None` if it concerns no event.
    pub seq: Option<u64>,
    /// The code.
    pub code: Code,
    /// The description: a sentence without its full stop.
    pub detail: String,
}

impl Problem {
    pub(crate) fn at(seq: u64, code: Code, detail: String) -> Self {
        let seq = Some(seq);
        Self { seq, code, detail }
    }

    pub(crate) fn missing(from: u64, to: u64) -> Self {
        let detail = if from == to {
            format!("event {from} is missing")
        } else {
            format!("events {from} to {to} are missing")
        };
        Self::at(from, Code::EventMissing, detail)
    }

    /// Rows without a sequence number.
    pub(crate) fn extra_rows(rows: u64) -> Self {
        let detail = format!(
            "{rows} rows of audit_events have a `seq` that is not an integer: the table was recreated without its \
             constraints, and the rows were inserted"
        );
        Self {
            seq: None,
            code: Code::EventExtra,
            detail,
        }
    }

    pub(crate) fn unlinked(seq: u64, prev_hash: Hash, before: Hash) -> Self {
        let detail = if seq == 1 {
            format!("event 1 refers to a previous event ({prev_hash}): earlier events were removed")
        } else {
            format!(
                "event {seq} follows an event with the hash {prev_hash}, but event {} has {before}: one of the two was \
                 inserted or replaced",
                seq - 1
            )
        };
        Self::at(seq, Code::LinkBroken, detail)
    }

    pub(crate) fn clock_back(seq: u64, recorded: Time, before: Time) -> Self {
        let detail = format!("event {seq} was recorded at {recorded}, before the previous event ({before})");
        Self::at(seq, Code::ClockBack, detail)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

/// A valid event that an auditor should know about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// The sequence number of the event.
    pub seq: u64,
    /// `clock`: a host's clock went back; `lost`: events were lost.
    pub kind: Kind,
    /// For `lost`, the number of events.
    pub count: Option<u64>,
    /// When the event was recorded.
    pub recorded: Time,
}
