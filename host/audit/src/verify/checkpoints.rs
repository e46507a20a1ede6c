//! Comparing the log with its checkpoints, and with the trusted references.

use super::problem::{Code, Problem};
use super::references::{Reference, other_log};
use super::retirement::RetiredSignature;
use super::rows::StoredNote;
use super::verifier::Verifier;
use super::{SKEW, signatures};
use crate::checkpoint::Note;
use crate::{Hash, Head};

/// A checkpoint, and what was verified of it.
struct ParsedNote {
    note: Note,
    /// Whether its signature was verified.
    verified: bool,
    /// Set if the signer is retired.
    retired: Option<RetiredSignature>,
}

impl Verifier {
    /// Verifies a checkpoint of the log itself; `head` is the event of the log at its size.
    pub(super) fn check_note(&mut self, stored: &StoredNote, head: Option<Head>) {
        self.checkpoints += 1;
        let parsed = match self.parse_note(stored) {
            Ok(parsed) => parsed,
            Err(problem) => return self.add_problem(problem),
        };
        let checkpoint = &parsed.note.checkpoint;
        let (size, made) = (checkpoint.size, checkpoint.time);
        let name = format!("the checkpoint over {size} events");
        let Some(head) = head else {
            // In a partial export, checkpoints over earlier events cannot be verified.
            if size >= self.first {
                let detail = format!("{name} does not follow event {size}");
                self.add_problem(Problem::at(size, Code::CheckpointMoved, detail));
            }
            return;
        };
        if checkpoint.hash != head.hash {
            let problem = self.replaced(size, &name, checkpoint.hash, head);
            return self.add_problem(problem);
        }
        let older_than = if made < head.recorded {
            Some(format!("event {size}, which was recorded at {}", head.recorded))
        } else {
            let before = self.last_made;
            let back = before.micros().saturating_sub(made.micros());
            (back > SKEW).then(|| format!("the previous checkpoint, which was made at {before}"))
        };
        if let Some(what) = older_than {
            let detail = format!("{name} was made at {made}, before {what}");
            return self.add_problem(Problem::at(size, Code::CheckpointTime, detail));
        }
        self.last_made = self.last_made.max(made);
        self.last_stored = self.last_stored.max(size);
        if parsed.verified && self.retirements.accepts(parsed.retired.as_ref(), size, &name) {
            self.coverage.add_checkpoint(size, made);
        }
    }

    /// Parses a checkpoint, and verifies its signature if there is a registry.
    fn parse_note(&mut self, stored: &StoredNote) -> Result<ParsedNote, Problem> {
        let size = stored.size;
        let problem = |code, detail: String| {
            Problem::at(size, code, format!("the checkpoint over {size} events {detail}"))
        };
        let note = Note::parse(&stored.text)
            .map_err(|error| problem(Code::CheckpointMalformed, format!("is malformed: {error}")))?;
        let checkpoint = &note.checkpoint;
        if checkpoint.size != size {
            let detail = format!("covers {} events by its text", checkpoint.size);
            return Err(problem(Code::CheckpointMoved, detail));
        }
        let origin = self
            .references
            .origin
            .get_or_insert_with(|| checkpoint.origin.clone());
        if *origin != checkpoint.origin {
            let detail = other_log(origin, &checkpoint.origin);
            return Err(problem(Code::CheckpointOrigin, detail));
        }
        let verified = self
            .references
            .registry
            .as_ref()
            .map(|registry| signatures::checkpoint(&note, registry));
        let verified = verified
            .transpose()
            .map_err(|(code, detail)| problem(code, detail))?;
        Ok(ParsedNote {
            note,
            verified: verified.is_some(),
            retired: verified.flatten(),
        })
    }

    /// Compares the trusted references with the events that were just added, and with the checkpoints over them.
    pub(super) fn check_references(&mut self, at: impl Fn(u64) -> Option<Head>, notes: &[StoredNote]) {
        while let Some(reference) = self.references.list.get(self.next_reference).copied()
            && reference.size <= self.end.size
        {
            self.next_reference += 1;
            let Some(head) = at(reference.size) else { continue };
            if let Some(problem) = self.check_reference(reference, head, notes) {
                self.add_problem(problem);
            }
        }
    }

    fn check_reference(&mut self, reference: Reference, head: Head, notes: &[StoredNote]) -> Option<Problem> {
        let (size, name) = (reference.size, reference.name());
        if reference.hash != head.hash {
            return Some(self.replaced(size, &name, reference.hash, head));
        }
        if let Some(made) = reference.made {
            if made < head.recorded {
                let detail = format!("{name} is older than event {size}, recorded at {}", head.recorded);
                return Some(Problem::at(size, Code::CheckpointTime, detail));
            }
            if size < self.first {
                // A partial export that begins right behind this event does not include its checkpoint.
                return None;
            }
            let Some(stored) = notes.iter().find(|note| note.size == size) else {
                let detail = format!("{name} is missing from the log's own checkpoints");
                return Some(Problem::at(size, Code::CheckpointMissing, detail));
            };
            let same = Note::parse(&stored.text).is_ok_and(|note| note.checkpoint.hash == reference.hash);
            if !same {
                let detail = format!("{name} differs from the log's own checkpoint");
                return Some(Problem::at(size, Code::CheckpointDiffers, detail));
            }
        }
        let retired = reference
            .retired
            .and_then(|index| self.references.retired.get(index));
        match reference.made {
            Some(made) if reference.verified && self.retirements.accepts(retired, size, &name) => {
                self.coverage.add_checkpoint(size, made);
            }
            Some(_) => {}
            None => self.coverage.add_head(size),
        }
        None
    }

    fn replaced(&self, size: u64, name: &str, hash: Hash, head: Head) -> Problem {
        let from = self.coverage.covered.unwrap_or(0) + 1;
        let detail = format!(
            "{name} has the hash {hash}, event {size} has {}: an event between event {from} and event {size} was \
             rewritten, or the log was replaced",
            head.hash
        );
        Problem::at(size, Code::LogReplaced, detail)
    }

    /// Adds the log's checkpoints over more events than there are.
    pub fn add_notes_past_end(&mut self, notes: &[StoredNote]) {
        if self.broken {
            return;
        }
        for stored in notes {
            self.checkpoints += 1;
            let name = format!("the checkpoint over {} events", stored.size);
            let problem = match self.parse_note(stored) {
                Ok(_) => self.truncated(&name, stored.size),
                Err(problem) => problem,
            };
            self.add_problem(problem);
        }
    }

    /// A problem for each trusted reference over more events than there are.
    pub(super) fn references_past_end(&self) -> impl Iterator<Item = Problem> {
        let past_end = self.references.list.get(self.next_reference..);
        past_end
            .unwrap_or_default()
            .iter()
            .map(|reference| self.truncated(&reference.name(), reference.size))
    }

    fn truncated(&self, name: &str, size: u64) -> Problem {
        let (end, next) = (self.end.size, self.next());
        let detail =
            format!("the log ends with event {end}; {name} shows that events {next} to {size} were cut off");
        Problem::at(next, Code::TailMissing, detail)
    }
}
