//! The result of a verification.

use serde::Serialize;

use super::checkpoint_file::CheckpointFileReport;
use super::problem::{Code, Problem, Warning};
use crate::{Hash, Time};

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The first event that was verified: 1, except for a partial export.
    pub first: u64,
    /// The last verified event.
    pub size: u64,
    /// The hash of that event; zeroes if there is none.
    pub hash: Hash,
    /// When that event was recorded.
    pub recorded: Time,
    /// The number of verified events.
    pub events: u64,
    /// Whether signatures were verified, which takes a registry of signers.
    pub signatures_verified: bool,
    /// The number of the log's own checkpoints.
    pub checkpoints: u64,
    /// The last event that a checkpoint with a verified signature covers.
    pub covered: Option<u64>,
    /// When that checkpoint was made.
    pub covered_at: Option<Time>,
    /// The largest trusted head that the log has.
    pub head_matched: Option<u64>,
    /// When the first event was recorded that neither covers.
    pub uncovered_since: Option<Time>,
    /// The name of the log, from the references or the first checkpoint.
    pub origin: Option<String>,
    /// The number of external checkpoints and trusted heads that the log was compared with.
    pub kept_outside: u64,
    /// The number of incomplete checkpoints in the external file; an interrupted write leaves one.
    pub torn: u64,
    /// The external checkpoint file, if one was given.
    pub outside: Option<CheckpointFileReport>,
    /// Whether the database was copied during use, without its write-ahead log.
    pub wal_missing: bool,
    /// The number of manifest signatures.
    pub manifests: u64,
    /// The number of manifest signatures that events record and that are missing from the table.
    pub manifests_gone: u64,
    /// The first hundred warnings: clocks that went back, and lost events, as the log itself records them.
    pub remarks: Vec<Warning>,
    /// The number of warnings.
    pub remarked: u64,
    /// The problems in log order: at most a hundred.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether there is no problem. That alone proves nothing: see [`Self::verdict`].
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.problems.is_empty()
    }

    /// The first problem in the log.
    #[must_use]
    pub fn first_problem(&self) -> Option<&Problem> {
        self.problems.first()
    }

    /// The code of the first problem.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.first_problem().map(|problem| problem.code)
    }

    /// The number of events at the end that no verified checkpoint covers.
    #[must_use]
    pub fn uncovered(&self) -> u64 {
        let covered = self.covered.unwrap_or(0).max(self.first.saturating_sub(1));
        self.size.saturating_sub(covered)
    }
}
