//! The verdict of a verification: what it proved, and what it did not.
//!
//! An intact chain alone proves nothing against an attacker who can write to the store, and can compute all hashes again.
//! The proof is a checkpoint with a verified signature, or a head that the auditor wrote down, and either only up to the
//! event it covers. A verification without such a reference is no success: it is [`Verdict::Unproven`].

use std::time::Duration;

use serde::Serialize;

use super::SKEW;
use super::checkpoint_file::{CheckpointFileReport, Ending};
use super::report::Report;
use crate::Time;

/// How long events may go without a checkpoint before they count as unproven: hosts sign one at least once a day, and by
/// default after a minute.
const OVERDUE: Duration = Duration::from_secs(25 * 3600);

/// What must be proven, besides any event at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requirements {
    /// Every event must be covered, up to the last.
    pub covered: bool,
    /// The newest verified checkpoint must not be older than this.
    pub max_age: Option<Duration>,
}

/// The verdict of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There is no problem, and what is required is proven.
    Proven,
    /// There is no problem, but no proof either that this is the log that was written.
    Unproven,
    /// There is a problem.
    Tampered,
}

/// The code of a missing proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum UnprovenCode {
    /// The log has no events.
    Empty,
    /// No signature was verified, as no registry of signers was given.
    NoSigners,
    /// No verified checkpoint or trusted head covers any event.
    NoCheckpoint,
    /// No verified checkpoint or trusted head covers the last events.
    Uncovered,
    /// The newest verified checkpoint is too old, or from the future.
    CheckpointAge,
    /// The external checkpoint file has no checkpoint.
    OutsideEmpty,
    /// The external checkpoint file ends with an incomplete checkpoint.
    OutsideTorn,
    /// The external checkpoint file ends before the log's own checkpoints.
    OutsideShort,
    /// The database was copied during use, without its write-ahead log.
    WalMissing,
}

/// A missing proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unproven {
    /// The code.
    pub code: UnprovenCode,
    /// The description: a sentence without its full stop.
    pub detail: String,
}

impl Unproven {
    fn new(code: UnprovenCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { code, detail }
    }
}

impl Report {
    /// The last event that is proven, together with all events before it, to be as it was written.
    #[must_use]
    pub fn proven(&self) -> Option<u64> {
        let proven = self.covered.max(self.head_matched)?;
        (proven >= self.first).then_some(proven)
    }

    /// The verdict under these requirements.
    #[must_use]
    pub fn verdict(&self, requirements: Requirements, now: Time) -> Verdict {
        if !self.is_intact() {
            Verdict::Tampered
        } else if self.unproven(requirements, now).is_empty() {
            Verdict::Proven
        } else {
            Verdict::Unproven
        }
    }

    /// The missing proofs, the most serious first. Meaningful only if there is no problem.
    #[must_use]
    pub fn unproven(&self, requirements: Requirements, now: Time) -> Vec<Unproven> {
        let missing = [
            self.without_proof(),
            self.uncovered_events(requirements, now),
            self.checkpoint_age(requirements, now),
            self.outside.as_ref().and_then(external_file),
            self.wal_missing.then(wal_missing),
        ];
        missing.into_iter().flatten().collect()
    }

    fn without_proof(&self) -> Option<Unproven> {
        if self.proven().is_some() {
            return None;
        }
        Some(if self.events == 0 {
            Unproven::new(
                UnprovenCode::Empty,
                "the log has no events: nothing shows that it never had any",
            )
        } else if !self.signatures_verified {
            Unproven::new(
                UnprovenCode::NoSigners,
                "no signature was verified, and a log that was replaced as a whole has a valid chain too: pass the \
                 registry with --signers, or a head that was written down with --head",
            )
        } else {
            Unproven::new(
                UnprovenCode::NoCheckpoint,
                "no signed checkpoint covers any of these events: nothing shows that they are as they were written",
            )
        })
    }

    fn uncovered_events(&self, requirements: Requirements, now: Time) -> Option<Unproven> {
        let proven = self.proven()?;
        let since = self.uncovered_since.filter(|_| proven < self.size)?;
        let overdue = now.micros().saturating_sub(since.micros()) > micros(OVERDUE);
        if !overdue && !requirements.covered {
            return None;
        }
        let events = match self.size - proven {
            1 => format!("event {} is", self.size),
            _ => format!("events {} to {} are", proven + 1, self.size),
        };
        let age = if overdue {
            ", and has not for more than a day"
        } else {
            ""
        };
        Some(Unproven::new(
            UnprovenCode::Uncovered,
            format!("{events} not proven: no signed checkpoint covers them{age} (the first is of {since})"),
        ))
    }

    fn checkpoint_age(&self, requirements: Requirements, now: Time) -> Option<Unproven> {
        let most = requirements.max_age?;
        let unproven = |detail: String| Some(Unproven::new(UnprovenCode::CheckpointAge, detail));
        let Some(made) = self.covered_at else {
            return unproven(
                "no checkpoint was verified, so there is no age to compare with --max-age".into(),
            );
        };
        if made.micros() > now.micros().saturating_add(SKEW) {
            return unproven(format!(
                "the newest verified checkpoint was made at {made}, in the future"
            ));
        }
        let age = now.micros().saturating_sub(made.micros());
        if age <= micros(most) {
            return None;
        }
        unproven(format!(
            "the newest verified checkpoint was made at {made}, longer ago than --max-age allows: later events, even if \
             they were cut off, are not proven"
        ))
    }
}

fn external_file(file: &CheckpointFileReport) -> Option<Unproven> {
    match &file.ending {
        Ending::Empty if file.torn.is_empty() => Some(Unproven::new(
            UnprovenCode::OutsideEmpty,
            "the checkpoint file is empty: the log was compared with nothing outside the store",
        )),
        Ending::Empty => Some(Unproven::new(
            UnprovenCode::OutsideEmpty,
            "the checkpoint file has no checkpoint: is it another file?",
        )),
        Ending::Torn { line } => Some(Unproven::new(
            UnprovenCode::OutsideTorn,
            format!(
                "the checkpoint file ends with an incomplete checkpoint, from line {line} on: a write was interrupted, or \
                 a checkpoint was damaged"
            ),
        )),
        Ending::Whole { size } => file.short_of.map(|stored| {
            Unproven::new(
                UnprovenCode::OutsideShort,
                format!(
                    "the checkpoint file ends with one over {size} events, the log's own go up to {stored}: the file was \
                     truncated, is an older copy, or is no longer written"
                ),
            )
        }),
    }
}

fn wal_missing() -> Unproven {
    Unproven::new(
        UnprovenCode::WalMissing,
        "the database was in use when it was copied, and its write-ahead log (-wal) is not beside it: the last events \
         may be missing; copy it with `postern audit backup`, or together with its -wal file",
    )
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
