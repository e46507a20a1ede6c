//! What a verification found.

use serde::Serialize;

use super::checkpoint_file::Outside;
use super::problem::{Code, Problem, Warning};
use crate::{Hash, Time};

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The first event that was verified; 1, unless the export of a part was.
    pub first: u64,
    /// The last event up to which all is well, and its hash.
    pub size: u64,
    /// The hash of that event; zeroes before the first.
    pub hash: Hash,
    /// When it was recorded.
    pub recorded: Time,
    /// How many events were verified.
    pub events: u64,
    /// Whether signatures were verified: no registry, no verification.
    pub signatures_verified: bool,
    /// How many checkpoints the log itself has up to there.
    pub checkpoints: u64,
    /// The last event that a checkpoint with a verified signature covers.
    pub covered: Option<u64>,
    /// When that checkpoint was made.
    pub covered_at: Option<Time>,
    /// The largest of the heads that were written down and that the log has.
    pub head_matched: Option<u64>,
    /// When the first event was recorded that neither covers.
    pub uncovered_since: Option<Time>,
    /// The name of the log, as it was given or as the first checkpoint has it.
    pub origin: Option<String>,
    /// How many checkpoints and heads that were kept outside it was held against.
    pub kept_outside: u64,
    /// How many pieces of the file of checkpoints are none; a write that was cut short leaves one.
    pub torn: u64,
    /// The file of checkpoints outside the store, if one was given.
    pub outside: Option<Outside>,
    /// Whether the database was copied while it was written to, without its write-ahead log.
    pub wal_missing: bool,
    /// How many signatures of manifests there are.
    pub manifests: u64,
    /// How many signatures of manifests events tell of that are not in the table of them.
    pub manifests_gone: u64,
    /// Clocks that went back and events that were lost, as the log itself says: the first hundred.
    pub remarks: Vec<Warning>,
    /// How many such there are.
    pub remarked: u64,
    /// What is wrong, the first in the log first: at most a hundred.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether nothing is wrong. That is no proof: see [`Self::verdict`].
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.problems.is_empty()
    }

    /// The first thing that is wrong.
    #[must_use]
    pub fn first_problem(&self) -> Option<&Problem> {
        self.problems.first()
    }

    /// The code of the first thing that is wrong.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        self.first_problem().map(|problem| problem.code)
    }

    /// How many events at the end no verified checkpoint covers.
    #[must_use]
    pub fn uncovered(&self) -> u64 {
        let covered = self.covered.unwrap_or(0).max(self.first.saturating_sub(1));
        self.size.saturating_sub(covered)
    }
}
