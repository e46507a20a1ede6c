//! What a verification proved, and what not.
//!
//! A chain that is whole proves nothing against somebody who can write to the store: the hashes can all be made anew.
//! What proves it is a checkpoint whose signature was verified, or a head that the auditor wrote down, and either only up
//! to the event that it names. A verification that had nothing of the kind is no success: it is [`Verdict::Unproven`].

use std::time::Duration;

use serde::Serialize;

use super::checkpoint_file::{Ending, Outside};
use super::report::Report;
use super::verifier::SKEW;
use crate::Time;

/// How long events may stand without a checkpoint before their end counts as unproven: hosts sign it once a day at the
/// least, and after a minute unless configured otherwise.
const OVERDUE: Duration = Duration::from_secs(25 * 3600);

/// What must be proven, beyond that anything is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demands {
    /// Every event, up to the last.
    pub covered: bool,
    /// That the newest verified checkpoint is not older than this.
    pub max_age: Option<Duration>,
}

/// What a verification comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing is wrong, and what was demanded is proven.
    Proven,
    /// Nothing is wrong, but nothing shows that this is the log that was written.
    Unproven,
    /// Something is wrong.
    Tampered,
}

/// Why something is not proven, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Lack {
    /// There is no event to prove.
    Empty,
    /// No registry of signers was given: no signature was verified.
    NoSigners,
    /// No verified checkpoint and no head covers any event.
    NoCheckpoint,
    /// No verified checkpoint and no head covers the last events.
    Uncovered,
    /// The newest verified checkpoint is too old, or from the future.
    CheckpointAge,
    /// The file of checkpoints outside the store has none.
    OutsideEmpty,
    /// The file of checkpoints outside the store ends in a piece that is none.
    OutsideTorn,
    /// The file of checkpoints outside the store ends before the log's own do.
    OutsideShort,
    /// The database was copied while it was written to, without its write-ahead log.
    WalMissing,
}

/// Something that is not proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unproven {
    /// Why, for programs.
    pub code: Lack,
    /// Why, for people: one sentence without its full stop.
    pub detail: String,
}

impl Unproven {
    fn new(code: Lack, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { code, detail }
    }
}

impl Report {
    /// The last event that is proven to be the one that was written, and with it all before it; none, if none is.
    #[must_use]
    pub fn proven(&self) -> Option<u64> {
        let proven = self.covered.max(self.head_matched)?;
        (proven >= self.first).then_some(proven)
    }

    /// What it comes to.
    #[must_use]
    pub fn verdict(&self, demands: Demands, now: Time) -> Verdict {
        if !self.is_whole() {
            Verdict::Tampered
        } else if self.unproven(demands, now).is_empty() {
            Verdict::Proven
        } else {
            Verdict::Unproven
        }
    }

    /// What is missing for a proof, the most serious first. Says nothing of a log in which something is wrong.
    #[must_use]
    pub fn unproven(&self, demands: Demands, now: Time) -> Vec<Unproven> {
        let lacks = [
            self.nothing(),
            self.uncovered_events(demands, now),
            self.age(demands, now),
            self.outside.as_ref().and_then(outside),
            self.wal_missing.then(wal_missing),
        ];
        lacks.into_iter().flatten().collect()
    }

    fn nothing(&self) -> Option<Unproven> {
        if self.proven().is_some() {
            return None;
        }
        Some(if self.events == 0 {
            Unproven::new(
                Lack::Empty,
                "there is no event: nothing shows that there never was one",
            )
        } else if !self.signatures_verified {
            Unproven::new(
                Lack::NoSigners,
                "no signature was verified, and a log that was replaced as a whole is a whole chain too: give the \
                 registry with --signers, or a head that was written down with --head",
            )
        } else {
            Unproven::new(
                Lack::NoCheckpoint,
                "no signed checkpoint covers any of these events: nothing shows that they are those that were written",
            )
        })
    }

    fn uncovered_events(&self, demands: Demands, now: Time) -> Option<Unproven> {
        let proven = self.proven()?;
        let since = self.uncovered_since.filter(|_| proven < self.size)?;
        let overdue = now.micros().saturating_sub(since.micros()) > micros(OVERDUE);
        if !overdue && !demands.covered {
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
            Lack::Uncovered,
            format!("{events} not proven: no signed checkpoint covers them{age} (the first is of {since})"),
        ))
    }

    fn age(&self, demands: Demands, now: Time) -> Option<Unproven> {
        let most = demands.max_age?;
        let lack = |detail: String| Some(Unproven::new(Lack::CheckpointAge, detail));
        let Some(made) = self.covered_at else {
            return lack("no checkpoint was verified whose age could be judged".into());
        };
        if made.micros() > now.micros().saturating_add(SKEW) {
            return lack(format!(
                "the newest verified checkpoint was made at {made}, in the future"
            ));
        }
        let age = now.micros().saturating_sub(made.micros());
        if age <= micros(most) {
            return None;
        }
        lack(format!(
            "the newest verified checkpoint was made at {made}, longer ago than --max-age allows: what was recorded \
             since, or cut off, shows nowhere"
        ))
    }
}

fn outside(file: &Outside) -> Option<Unproven> {
    match &file.ending {
        Ending::Empty if file.torn.is_empty() => Some(Unproven::new(
            Lack::OutsideEmpty,
            "the file of checkpoints is empty: the log was held against nothing outside the store",
        )),
        Ending::Empty => Some(Unproven::new(
            Lack::OutsideEmpty,
            "the file of checkpoints has no checkpoint in it: is it another file?",
        )),
        Ending::Torn { line } => Some(Unproven::new(
            Lack::OutsideTorn,
            format!(
                "the file of checkpoints ends with a piece that is none, from line {line} on: a write that was cut \
                 short, or a checkpoint that was damaged"
            ),
        )),
        Ending::Whole { size } => file.short_of.map(|stored| {
            Unproven::new(
                Lack::OutsideShort,
                format!(
                    "the file of checkpoints ends with one over {size} events, the log's own go up to {stored}: the \
                     file was cut off, is an older copy, or is not written any more"
                ),
            )
        }),
    }
}

fn wal_missing() -> Unproven {
    Unproven::new(
        Lack::WalMissing,
        "the database was in use when it was copied, and its write-ahead log (-wal) is not beside it: the last events \
         may be missing; copy it with `postern audit backup`, or together with its -wal file",
    )
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
