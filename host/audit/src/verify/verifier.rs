//! Combines the segments of a log, and compares the result with signatures and trusted references.

use std::io;

use super::MAX_LISTED;
use super::coverage::Coverage;
use super::ids::Ids;
use super::manifests::Manifests;
use super::problem::{Code, Problem, Warning};
use super::references::TrustedReferences;
use super::report::Report;
use super::retirement::Retirements;
use super::rows::{ManifestRow, StoredNote};
use super::segment::{Link, Segment};
use crate::{GENESIS, Head, Time};

/// Verifies a log from its beginning to its end.
#[derive(Debug)]
pub struct Verifier {
    pub(super) references: TrustedReferences,
    /// The index of the next of `references.list`.
    pub(super) next_reference: usize,
    pub(super) first: u64,
    pub(super) end: Head,
    pub(super) broken: bool,
    ids: Ids,
    /// When the log's last checkpoint was made.
    pub(super) last_made: Time,
    pub(super) checkpoints: u64,
    pub(super) coverage: Coverage,
    /// The size of the log's largest checkpoint.
    pub(super) last_stored: u64,
    manifests: Manifests,
    pub(super) retirements: Retirements,
    remarks: Vec<Warning>,
    remarked: u64,
    problems: Vec<Problem>,
}

impl Verifier {
    /// Begins with the first event of a log.
    #[must_use]
    pub fn new(references: TrustedReferences) -> Self {
        Self::after(references, Head::EMPTY)
    }

    /// Begins after a head that is taken as given, for a partial export.
    #[must_use]
    pub fn after(mut references: TrustedReferences, head: Head) -> Self {
        references.list.sort_by_key(|reference| reference.size);
        // References to events before the head prove nothing about the events after it.
        let next_reference = references
            .list
            .partition_point(|reference| reference.size < head.size);
        let problems = std::mem::take(&mut references.problems);
        Self {
            references,
            next_reference,
            first: head.size + 1,
            end: head,
            broken: false,
            ids: Ids::default(),
            last_made: Time::EPOCH,
            checkpoints: 0,
            coverage: Coverage::default(),
            last_stored: 0,
            manifests: Manifests::default(),
            retirements: Retirements::default(),
            remarks: Vec::new(),
            remarked: 0,
            problems,
        }
    }

    /// The sequence number of the next event.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.end.size + 1
    }

    /// The last verified event.
    pub(crate) fn end(&self) -> Head {
        self.end
    }

    /// Adds the next segment, and the log's checkpoints over its events. Returns false after the first invalid event:
    /// nothing behind it is verified.
    ///
    /// # Errors
    /// If the temporary files for sorting ids cannot be written.
    pub fn add_segment(&mut self, segment: Segment, notes: &[StoredNote]) -> io::Result<bool> {
        if self.broken {
            return Ok(false);
        }
        let before = self.end;
        let problem = self.check_join(&segment);
        let links = if problem.is_some() {
            &[][..]
        } else {
            &segment.links
        };
        for (seq, link) in (segment.first..).zip(links) {
            self.ids.push(link.id, seq)?;
        }
        if let Some(last) = links.last() {
            self.end = Head {
                size: before.size + links.len() as u64,
                hash: last.hash,
                recorded: last.recorded,
            };
        }
        if let Some(problem) = problem.or(segment.problem) {
            self.broken = true;
            self.problems.push(problem);
        }
        self.remarked += segment.remarks.len() as u64;
        let room = MAX_LISTED.saturating_sub(self.remarks.len());
        self.remarks.extend(segment.remarks.into_iter().take(room));
        self.retirements.add_events(segment.retirements);
        self.manifests.add_events(segment.manifests);
        let at = |size| head_at(before, links, size);
        let size = self.end.size;
        for note in notes.iter().filter(|note| note.size <= size) {
            self.check_note(note, at(note.size));
        }
        self.check_references(at, notes);
        self.coverage.update_uncovered(before.size, links);
        Ok(!self.broken)
    }

    /// Checks that a segment continues the events before it.
    fn check_join(&self, segment: &Segment) -> Option<Problem> {
        if segment.first != self.next() {
            return Some(Problem::missing(self.next(), segment.first.saturating_sub(1)));
        }
        let first = segment.links.first()?;
        if segment.prev_hash != self.end.hash {
            return Some(Problem::unlinked(segment.first, segment.prev_hash, self.end.hash));
        }
        let back = first.recorded < self.end.recorded;
        back.then(|| Problem::clock_back(segment.first, first.recorded, self.end.recorded))
    }

    /// Declares that all manifest signatures are going to be added. They must be added before the events: an event is
    /// written together with its signature, so the events that are read later include those of all signatures read before.
    pub fn expect_manifests(&mut self) {
        self.manifests.expect();
    }

    /// Adds a manifest signature.
    pub fn add_manifest(&mut self, row: &ManifestRow) {
        let registry = self.references.registry.as_ref();
        if let Some(problem) = self.manifests.add_row(row, registry) {
            self.add_problem(problem);
        }
    }

    /// Whether events record manifest signatures that were not added.
    pub(crate) fn has_missing_manifests(&self) -> bool {
        self.manifests.missing() > 0
    }

    /// Adds a manifest signature that was not there yet when all were added.
    pub(crate) fn add_late_manifest(&mut self, row: &ManifestRow) {
        self.manifests.add_late_row(row);
    }

    /// Reports each manifest signature that an event records and that was not added.
    pub(crate) fn finish_manifests(&mut self) {
        for problem in self.manifests.missing_problems() {
            self.add_problem(problem);
        }
    }

    /// Reports a problem that was found outside the events.
    pub(crate) fn add_problem(&mut self, problem: Problem) {
        if self.problems.len() < MAX_LISTED {
            self.problems.push(problem);
        }
    }

    /// Ends the verification after the last event.
    ///
    /// # Errors
    /// If the temporary files for sorting ids cannot be read.
    pub fn finish(mut self) -> io::Result<Report> {
        if let Some(duplicate) = std::mem::take(&mut self.ids).find_duplicate()? {
            let detail = format!(
                "event {} has the id of event {}: {}",
                duplicate.second, duplicate.first, duplicate.id
            );
            // Pushed even beyond the limit: it may be the first problem in the log.
            self.problems
                .push(Problem::at(duplicate.second, Code::EventDuplicate, detail));
        }
        self.manifests.check_retired(&mut self.retirements);
        self.problems.extend(self.retirements.problems().take(MAX_LISTED));
        if !self.broken {
            let truncated = self.references_past_end().take(MAX_LISTED);
            let more: Vec<_> = truncated.chain(self.manifests.mismatches()).collect();
            self.problems.extend(more);
        }
        self.problems
            .sort_by_key(|problem| problem.seq.unwrap_or(u64::MAX));
        self.problems.truncate(MAX_LISTED);
        let mut outside = self.references.checkpoint_file.take();
        if let Some(file) = &mut outside {
            file.compare(
                self.references
                    .stored_checkpoint_size
                    .unwrap_or(u64::MAX)
                    .min(self.last_stored),
            );
        }
        Ok(Report {
            first: self.first,
            size: self.end.size,
            hash: self.end.hash,
            recorded: self.end.recorded,
            events: self.next() - self.first,
            signatures_verified: self.references.registry.is_some(),
            checkpoints: self.checkpoints,
            covered: self.coverage.covered,
            covered_at: self.coverage.covered_at,
            head_matched: self.coverage.head_matched,
            uncovered_since: self.coverage.uncovered_since,
            origin: self.references.origin.clone(),
            kept_outside: self.references.list.len() as u64,
            torn: outside.as_ref().map_or(0, |file| file.pieces),
            outside,
            wal_missing: false,
            manifests: self.manifests.count(),
            manifests_gone: self.manifests.missing(),
            remarks: self.remarks,
            remarked: self.remarked,
            problems: self.problems,
        })
    }
}

/// The event of the log at a size: among the events that were just added, or right before them.
fn head_at(before: Head, links: &[Link], size: u64) -> Option<Head> {
    if size == 0 {
        return Some(Head {
            hash: GENESIS,
            ..Head::EMPTY
        });
    }
    if size == before.size {
        return Some(before);
    }
    let index = usize::try_from(size.checked_sub(before.size)?.checked_sub(1)?).ok()?;
    links.get(index).map(|link| Head {
        size,
        hash: link.hash,
        recorded: link.recorded,
    })
}
