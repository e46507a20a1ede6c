//! Putting stretches together, and holding what comes of it against what was signed and kept.

use std::collections::HashMap;
use std::io;

use uuid::Uuid;

use super::ids::Ids;
use super::problem::{Code, Problem, Warning};
use super::references::{Kept, TrustedReferences, other_log};
use super::report::Report;
use super::retirement::{Doubt, Retirements};
use super::segment::{Link, Manifested, Segment};
use super::signed;
use crate::checkpoint::Note;
use crate::{GENESIS, Hash, Head, Time};

/// The most of anything that a report lists.
const MOST: usize = 100;
/// How far apart the clocks of hosts may be that write to one log, in microseconds: five minutes. By so much a
/// checkpoint may seem to be older than the one before it.
pub(crate) const SKEW: u64 = 300_000_000;

/// A checkpoint as a store or an export has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredNote {
    /// The size it is found by.
    pub size: u64,
    /// The note.
    pub text: String,
}

/// A row of `manifest_signatures`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestRow {
    /// Its name.
    pub id: Vec<u8>,
    /// The manifest's hash: 32 bytes, which are what was signed.
    pub manifest_hash: Vec<u8>,
    /// An Ed25519 signature of them.
    pub signature: Vec<u8>,
    /// Who signed.
    pub signer_id: String,
    /// When.
    pub signed_at: String,
}

/// What a row of `manifest_signatures` says that its event says too.
#[derive(Debug, Clone)]
struct SignedRow {
    hash: Option<Hash>,
    signer_id: String,
    made: Option<Time>,
    /// What is left to be judged of the signature.
    doubt: Option<Doubt>,
}

impl SignedRow {
    fn of(row: &ManifestRow) -> Self {
        let hash = <[u8; 32]>::try_from(row.manifest_hash.as_slice());
        Self {
            hash: hash.ok().map(Hash),
            signer_id: row.signer_id.clone(),
            // One moment has one form, as in events.
            made: Time::parse(&row.signed_at).filter(|made| made.to_string() == row.signed_at),
            doubt: None,
        }
    }

    /// Whether it is the signature that the event tells of, made when the event says, by the same clock. `recorded` is not
    /// of that clock alone: it never goes back. A time of one's choice would make the signature of a retired signer count.
    fn is_of(&self, event: &Manifested) -> bool {
        let near = |made: Time| made.micros().abs_diff(event.time.micros()) <= SKEW;
        self.hash == Some(event.hash)
            && event.signer_id.as_ref() == Some(&self.signer_id)
            && self.made.is_some_and(near)
    }
}

/// Verifies a log from its beginning to its end.
#[derive(Debug)]
pub struct Verifier {
    against: TrustedReferences,
    /// Which of `against.kept` comes next.
    next_kept: usize,
    first: u64,
    end: Head,
    broken: bool,
    ids: Ids,
    /// When the last checkpoint of the log was made.
    last_made: Time,
    checkpoints: u64,
    covered: Option<u64>,
    covered_at: Option<Time>,
    head_matched: Option<u64>,
    uncovered_since: Option<Time>,
    /// The most events that one of the log's own checkpoints is over.
    last_stored: u64,
    manifests: u64,
    /// The rows of `manifest_signatures`, by id; nothing, where none were looked at.
    signed_manifests: Option<HashMap<Uuid, SignedRow>>,
    /// What events say was signed, by their ids.
    recorded_manifests: HashMap<Uuid, Manifested>,
    retirements: Retirements,
    remarks: Vec<Warning>,
    remarked: u64,
    problems: Vec<Problem>,
}

impl Verifier {
    /// Begins with the first event of a log.
    #[must_use]
    pub fn new(against: TrustedReferences) -> Self {
        Self::behind(against, Head::EMPTY)
    }

    /// Begins behind a head that is taken as given: that of the export of a part.
    #[must_use]
    pub fn behind(mut against: TrustedReferences, head: Head) -> Self {
        against.kept.sort_by_key(|kept| kept.size);
        // What was kept of what is not here says nothing of what is.
        let next_kept = against.kept.partition_point(|kept| kept.size < head.size);
        let problems = std::mem::take(&mut against.problems);
        Self {
            against,
            next_kept,
            first: head.size + 1,
            end: head,
            broken: false,
            ids: Ids::default(),
            last_made: Time::EPOCH,
            checkpoints: 0,
            covered: None,
            covered_at: None,
            head_matched: None,
            uncovered_since: None,
            last_stored: 0,
            manifests: 0,
            signed_manifests: None,
            recorded_manifests: HashMap::new(),
            retirements: Retirements::default(),
            remarks: Vec::new(),
            remarked: 0,
            problems,
        }
    }

    /// The place of the event that comes next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.end.size + 1
    }

    /// The last event that is verified.
    pub(crate) fn end(&self) -> Head {
        self.end
    }

    /// Takes the stretch that comes next, and the log's checkpoints over its events. Returns whether there is any use
    /// in going on: behind the first event that is wrong, nothing is verified.
    ///
    /// # Errors
    /// If the temporary files that ids are sorted in cannot be written.
    pub fn take(&mut self, segment: Segment, notes: &[StoredNote]) -> io::Result<bool> {
        if self.broken {
            return Ok(false);
        }
        let before = self.end;
        let problem = self.join(&segment);
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
        let room = MOST.saturating_sub(self.remarks.len());
        self.remarks.extend(segment.remarks.into_iter().take(room));
        self.retirements.take(segment.told);
        let manifested = segment.manifests.into_iter();
        self.recorded_manifests
            .extend(manifested.map(|manifested| (manifested.id, manifested)));
        let at = |size| head_at(before, links, size);
        let size = self.end.size;
        for note in notes.iter().filter(|note| note.size <= size) {
            self.checkpoint(note, at(note.size));
        }
        self.compare_kept(at, notes);
        self.note_uncovered(before.size, links);
        Ok(!self.broken)
    }

    /// Keeps when the first event was recorded that nothing proves so far.
    fn note_uncovered(&mut self, before: u64, links: &[Link]) {
        let proven = self.covered.max(self.head_matched).unwrap_or(0).max(before);
        let next = usize::try_from(proven - before)
            .ok()
            .and_then(|place| links.get(place));
        if proven > before || self.uncovered_since.is_none() {
            self.uncovered_since = next.map(|link| link.recorded);
        }
    }

    /// Something whose signature was verified is over so many events.
    fn cover(&mut self, size: u64, made: Time) {
        if self.covered <= Some(size) {
            self.covered = Some(size);
            self.covered_at = self.covered_at.max(Some(made));
        }
    }

    /// What is wrong between the events before and a stretch.
    fn join(&self, segment: &Segment) -> Option<Problem> {
        if segment.first != self.next() {
            return Some(Problem::missing(self.next(), segment.first.saturating_sub(1)));
        }
        let first = segment.links.first()?;
        if segment.prev_hash != self.end.hash {
            return Some(Problem::unlinked(segment.first, segment.prev_hash, self.end.hash));
        }
        let back = first.recorded < self.end.recorded;
        back.then(|| Problem::clock(segment.first, first.recorded, self.end.recorded))
    }

    /// A checkpoint of the log; `head` is what the log has at its size.
    fn checkpoint(&mut self, stored: &StoredNote, head: Option<Head>) {
        self.checkpoints += 1;
        let (note, signed, doubt) = match self.note(stored) {
            Ok(read) => read,
            Err(problem) => return self.problem(problem),
        };
        let checkpoint = &note.checkpoint;
        let (size, made) = (checkpoint.size, checkpoint.time);
        let Some(head) = head else {
            // Of what comes before the export of a part, nothing can be said.
            if size >= self.first {
                let detail = format!("the checkpoint over {size} events does not stand behind event {size}");
                self.problem(Problem::at(size, Code::CheckpointMoved, detail));
            }
            return;
        };
        if checkpoint.hash != head.hash {
            let problem = self.replaced(
                size,
                &format!("the checkpoint over {size} events"),
                checkpoint.hash,
                head,
            );
            return self.problem(problem);
        }
        let older_than = if made < head.recorded {
            Some(format!("event {size}, which was recorded at {}", head.recorded))
        } else {
            let before = self.last_made;
            let back = before.micros().saturating_sub(made.micros());
            (back > SKEW).then(|| format!("the checkpoint before, which was made at {before}"))
        };
        if let Some(what) = older_than {
            let detail = format!("the checkpoint over {size} events was made at {made}, before {what}");
            return self.problem(Problem::at(size, Code::CheckpointTime, detail));
        }
        self.last_made = self.last_made.max(made);
        self.last_stored = self.last_stored.max(size);
        let name = format!("the checkpoint over {size} events");
        if signed && self.retirements.is_sure(doubt.as_ref(), size, &name) {
            self.cover(size, made);
        }
    }

    /// Reads a checkpoint, and whether its signature was verified; and what is left to be judged of that.
    fn note(&mut self, stored: &StoredNote) -> Result<(Note, bool, Option<Doubt>), Problem> {
        let size = stored.size;
        let problem = |code, detail: String| {
            Problem::at(size, code, format!("the checkpoint over {size} events {detail}"))
        };
        let note = Note::parse(&stored.text)
            .map_err(|error| problem(Code::CheckpointMalformed, format!("is none: {error}")))?;
        let checkpoint = &note.checkpoint;
        if checkpoint.size != size {
            let detail = format!("is one over {}", checkpoint.size);
            return Err(problem(Code::CheckpointMoved, detail));
        }
        let origin = self
            .against
            .origin
            .get_or_insert_with(|| checkpoint.origin.clone());
        if *origin != checkpoint.origin {
            let detail = other_log(origin, &checkpoint.origin);
            return Err(problem(Code::CheckpointOrigin, detail));
        }
        let verified = self
            .against
            .registry
            .as_ref()
            .map(|registry| signed::checkpoint(&note, registry));
        let verified = verified
            .transpose()
            .map_err(|(code, detail)| problem(code, detail))?;
        Ok((note, verified.is_some(), verified.flatten()))
    }

    /// Compares what was kept outside with the events that were just taken, and with the checkpoints over them.
    fn compare_kept(&mut self, at: impl Fn(u64) -> Option<Head>, notes: &[StoredNote]) {
        while let Some(kept) = self.against.kept.get(self.next_kept).copied()
            && kept.size <= self.end.size
        {
            self.next_kept += 1;
            let Some(head) = at(kept.size) else { continue };
            if let Some(problem) = self.kept(kept, head, notes) {
                self.problem(problem);
            }
        }
    }

    fn kept(&mut self, kept: Kept, head: Head, notes: &[StoredNote]) -> Option<Problem> {
        let (size, name) = (kept.size, kept.name());
        if kept.hash != head.hash {
            return Some(self.replaced(size, &name, kept.hash, head));
        }
        if let Some(made) = kept.made {
            if made < head.recorded {
                let detail = format!("{name} is older than event {size}, recorded at {}", head.recorded);
                return Some(Problem::at(size, Code::CheckpointTime, detail));
            }
            if size < self.first {
                // The export of a part begins right behind it, and has it not.
                return None;
            }
            let Some(stored) = notes.iter().find(|note| note.size == size) else {
                let detail = format!("{name} is missing from the log's own checkpoints");
                return Some(Problem::at(size, Code::CheckpointMissing, detail));
            };
            let same = Note::parse(&stored.text).is_ok_and(|note| note.checkpoint.hash == kept.hash);
            if !same {
                let detail = format!("{name} is another one among the log's own checkpoints");
                return Some(Problem::at(size, Code::CheckpointDiffers, detail));
            }
        }
        let doubt = kept.doubt.and_then(|place| self.against.doubts.get(place));
        match kept.made {
            Some(made) if kept.signed && self.retirements.is_sure(doubt, size, &name) => {
                self.cover(size, made);
            }
            Some(_) => {}
            None => self.head_matched = self.head_matched.max(Some(size)),
        }
        None
    }

    fn replaced(&self, size: u64, name: &str, hash: Hash, head: Head) -> Problem {
        let from = self.covered.unwrap_or(0) + 1;
        let detail = format!(
            "{name} has the hash {hash}, event {size} has {}: something from event {from} to event {size} was \
             rewritten, or the log was replaced",
            head.hash
        );
        Problem::at(size, Code::LogReplaced, detail)
    }

    /// Takes the log's checkpoints over more events than there are.
    pub fn take_beyond(&mut self, notes: &[StoredNote]) {
        if self.broken {
            return;
        }
        for stored in notes {
            self.checkpoints += 1;
            let problem = match self.note(stored) {
                Ok(_) => self.cut(
                    &format!("the checkpoint over {} events", stored.size),
                    stored.size,
                ),
                Err(problem) => problem,
            };
            self.problem(problem);
        }
    }

    fn cut(&self, name: &str, size: u64) -> Problem {
        let (end, next) = (self.end.size, self.next());
        let detail =
            format!("the log ends with event {end}; {name} shows that events {next} to {size} were cut off");
        Problem::at(next, Code::TailMissing, detail)
    }

    /// Says that all signatures of manifests are going to be taken. They are taken before the events are, for an event
    /// is written with its signature: what is there first is told of by what is read next.
    pub fn expect_manifests(&mut self) {
        self.signed_manifests.get_or_insert_default();
    }

    /// Takes a signature of a manifest.
    pub fn take_manifest(&mut self, row: &ManifestRow) {
        self.manifests += 1;
        let id = Uuid::from_slice(&row.id).unwrap_or_default();
        let mut signed = SignedRow::of(row);
        match (signed.hash, signed.made, &self.against.registry) {
            (Some(hash), Some(made), Some(registry)) => {
                match signed::manifest(registry, &row.signer_id, &hash.0, &row.signature, made) {
                    Ok(doubt) => signed.doubt = doubt,
                    Err((code, detail)) => self.problem(of_manifest(id, code, &detail)),
                }
            }
            (Some(_), Some(_), None) => {}
            _ => {
                let detail = "has no hash of 32 bytes, or no time";
                self.problem(of_manifest(id, Code::ManifestSignature, detail));
            }
        }
        self.signed_manifests.get_or_insert_default().insert(id, signed);
    }

    /// Whether events tell of signatures of manifests that were not taken.
    pub(crate) fn misses_manifests(&self) -> bool {
        self.manifests_gone() > 0
    }

    /// A signature that was not there yet when all were taken.
    pub(crate) fn take_late_manifest(&mut self, row: &ManifestRow) {
        let id = Uuid::from_slice(&row.id).unwrap_or_default();
        if let Some(signed) = &mut self.signed_manifests
            && self.recorded_manifests.contains_key(&id)
        {
            signed.entry(id).or_insert_with(|| SignedRow::of(row));
        }
    }

    fn manifests_gone(&self) -> u64 {
        let Some(signed) = &self.signed_manifests else {
            return 0;
        };
        let gone = self
            .recorded_manifests
            .keys()
            .filter(|id| !signed.contains_key(*id));
        gone.count() as u64
    }

    /// Notes each signature that an event tells of and the table does not have.
    pub(crate) fn take_no_more_manifests(&mut self) {
        let Some(signed) = &self.signed_manifests else {
            return;
        };
        let recorded = self.recorded_manifests.keys();
        let gone: Vec<_> = recorded.filter(|id| !signed.contains_key(*id)).copied().collect();
        for id in gone {
            let detail = "stands in an event and is not in the table";
            self.problem(of_manifest(id, Code::ManifestMissing, detail));
        }
    }

    /// Signatures that no event tells of, or that events tell of otherwise.
    fn unlike_events(&self) -> Vec<Problem> {
        let signed = self.signed_manifests.iter().flatten();
        let unlike = signed.filter_map(|(id, row)| match self.recorded_manifests.get(id) {
            None => Some(of_manifest(*id, Code::ManifestUnrecorded, "is in no event")),
            Some(event) if row.is_of(event) => None,
            Some(_) => {
                let detail =
                    "is over another manifest, by another signer or of another time than its event says";
                Some(of_manifest(*id, Code::ManifestDiffers, detail))
            }
        });
        unlike.take(MOST).collect()
    }

    /// Notes what else is wrong with what was read.
    pub(crate) fn problem(&mut self, problem: Problem) {
        if self.problems.len() < MOST {
            self.problems.push(problem);
        }
    }

    /// Ends behind the last event.
    ///
    /// # Errors
    /// If the temporary files that ids are sorted in cannot be read.
    pub fn finish(mut self) -> io::Result<Report> {
        if let Some(twice) = std::mem::take(&mut self.ids).twice()? {
            let detail = format!(
                "event {} has the id of event {}: {}",
                twice.second, twice.first, twice.id
            );
            // Not one too many: it may be the first.
            self.problems
                .push(Problem::at(twice.second, Code::EventDuplicate, detail));
        }
        for (id, row) in self.signed_manifests.iter().flatten() {
            if let (Some(doubt), Some(event)) = (&row.doubt, self.recorded_manifests.get(id)) {
                self.retirements
                    .manifest(doubt, event.seq, format!("the manifest signature {id}"));
            }
        }
        self.problems.extend(self.retirements.problems().take(MOST));
        if !self.broken {
            let beyond = self.against.kept.get(self.next_kept..).unwrap_or_default();
            let cut = beyond
                .iter()
                .map(|kept| self.cut(&kept.name(), kept.size))
                .take(MOST);
            let more: Vec<_> = cut.chain(self.unlike_events()).collect();
            self.problems.extend(more);
        }
        self.problems
            .sort_by_key(|problem| problem.seq.unwrap_or(u64::MAX));
        self.problems.truncate(MOST);
        let mut outside = self.against.outside.take();
        if let Some(file) = &mut outside {
            file.compare(
                self.against
                    .stored_before
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
            signatures_verified: self.against.registry.is_some(),
            checkpoints: self.checkpoints,
            covered: self.covered,
            covered_at: self.covered_at,
            head_matched: self.head_matched,
            uncovered_since: self.uncovered_since,
            origin: self.against.origin.clone(),
            kept_outside: self.against.kept.len() as u64,
            torn: outside.as_ref().map_or(0, |file| file.pieces),
            outside,
            wal_missing: false,
            manifests: self.manifests,
            manifests_gone: self.manifests_gone(),
            remarks: self.remarks,
            remarked: self.remarked,
            problems: self.problems,
        })
    }
}

fn of_manifest(id: Uuid, code: Code, detail: &str) -> Problem {
    Problem {
        seq: None,
        code,
        detail: format!("the manifest signature {id} {detail}"),
    }
}

/// What the log has at a size: within the events that were just taken, or right before them.
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
    let place = usize::try_from(size.checked_sub(before.size)?.checked_sub(1)?).ok()?;
    links.get(place).map(|link| Head {
        size,
        hash: link.hash,
        recorded: link.recorded,
    })
}
