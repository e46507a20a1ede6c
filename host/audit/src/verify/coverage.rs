//! How far a log is proven.

use super::segment::Link;
use crate::Time;

/// The events that verified checkpoints and trusted heads cover.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// The last event that a checkpoint with a verified signature covers.
    pub(super) covered: Option<u64>,
    /// When that checkpoint was made.
    pub(super) covered_at: Option<Time>,
    /// The largest trusted head that the log has.
    pub(super) head_matched: Option<u64>,
    /// When the first event was recorded that neither covers.
    pub(super) uncovered_since: Option<Time>,
}

impl Coverage {
    /// Adds a checkpoint whose signature was verified.
    pub(super) fn add_checkpoint(&mut self, size: u64, made: Time) {
        if self.covered <= Some(size) {
            self.covered = Some(size);
            self.covered_at = self.covered_at.max(Some(made));
        }
    }

    /// Adds a trusted head that the log has.
    pub(super) fn add_head(&mut self, size: u64) {
        self.head_matched = self.head_matched.max(Some(size));
    }

    /// Updates the time of the first uncovered event after the events `links`, which follow event `before`, were added.
    pub(super) fn update_uncovered(&mut self, before: u64, links: &[Link]) {
        let proven = self.covered.max(self.head_matched).unwrap_or(0).max(before);
        let next = usize::try_from(proven - before)
            .ok()
            .and_then(|index| links.get(index));
        if proven > before || self.uncovered_since.is_none() {
            self.uncovered_since = next.map(|link| link.recorded);
        }
    }
}
