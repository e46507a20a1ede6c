//! A circuit breaker: stops asking a proxy that does not answer, and tries one request after a while.
//!
//! What counts are failures of the transport alone, several in a row. An answer of any kind, a wrong one too, shows that
//! the proxy is there: it closes the breaker. No clock is read here.

use std::time::{Duration, Instant};

/// When it opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Opens after so many failures in a row.
    pub failures: u32,
    /// Lets a request try after so long.
    pub pause: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures: 5,
            pause: Duration::from_secs(1),
        }
    }
}

/// What it does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Lets them pass.
    Closed,
    /// One is trying; refuses the others.
    HalfOpen,
    /// Refuses them.
    Open,
}

impl BreakerState {
    /// Its name in health.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// How a request ended, as far as the breaker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptOutcome {
    /// With an answer, good or not.
    Responded,
    /// Without one.
    Failed,
    /// Its caller went away before either.
    Cancelled,
}

/// What a request is allowed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// One of many.
    Normal,
    /// The one that tries.
    Trial,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InnerState {
    /// With this many failures in a row.
    Closed(u32),
    /// Since the moment.
    Open(Instant),
    /// With one that tries.
    HalfOpen,
}

/// The breaker of a proxy.
#[derive(Debug)]
pub(crate) struct Breaker {
    settings: BreakerSettings,
    state: InnerState,
}

impl Breaker {
    pub(crate) fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            state: InnerState::Closed(0),
        }
    }

    /// What it does with the next request, the time aside.
    pub(crate) fn state(&self) -> BreakerState {
        match self.state {
            InnerState::Closed(_) => BreakerState::Closed,
            InnerState::Open(_) => BreakerState::Open,
            InnerState::HalfOpen => BreakerState::HalfOpen,
        }
    }

    /// Lets a request pass, or not. One that passes is to be [`Self::record`].
    pub(crate) fn try_acquire(&mut self, now: Instant) -> Option<Permit> {
        match self.state {
            InnerState::Closed(_) => Some(Permit::Normal),
            InnerState::Open(since) if now.saturating_duration_since(since) >= self.settings.pause => {
                self.state = InnerState::HalfOpen;
                Some(Permit::Trial)
            }
            InnerState::Open(_) | InnerState::HalfOpen => None,
        }
    }

    /// A request that passed has ended.
    pub(crate) fn record(&mut self, permit: Permit, outcome: AttemptOutcome, now: Instant) {
        self.state = match (outcome, self.state) {
            (AttemptOutcome::Responded, _) => InnerState::Closed(0),
            (AttemptOutcome::Failed, InnerState::Closed(failures))
                if failures + 1 < self.settings.failures =>
            {
                InnerState::Closed(failures + 1)
            }
            (AttemptOutcome::Failed, InnerState::Closed(_)) => InnerState::Open(now),
            (AttemptOutcome::Failed, InnerState::HalfOpen) if permit == Permit::Trial => {
                InnerState::Open(now)
            }
            // It has told nothing: the next one tries, at once.
            (AttemptOutcome::Cancelled, InnerState::HalfOpen) if permit == Permit::Trial => {
                InnerState::Open(now.checked_sub(self.settings.pause).unwrap_or(now))
            }
            // One of before it opened comes late: nothing new.
            (_, state) => state,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BreakerState::{Closed, HalfOpen, Open};

    /// What happens, at a second; and what the breaker says then.
    enum Step {
        Enter(u64, Option<Permit>, BreakerState),
        End(u64, Permit, AttemptOutcome, BreakerState),
    }
    use Step::{End, Enter};

    fn play(steps: &[Step]) {
        let start = Instant::now() + Duration::from_secs(60);
        let at = |second: &u64| start + Duration::from_secs(*second);
        let mut breaker = Breaker::new(BreakerSettings {
            failures: 2,
            pause: Duration::from_secs(10),
        });
        for (number, step) in steps.iter().enumerate() {
            let state = match step {
                Enter(second, expected, state) => {
                    assert_eq!(breaker.try_acquire(at(second)), *expected, "step {number}");
                    state
                }
                End(second, permit, outcome, state) => {
                    breaker.record(*permit, *outcome, at(second));
                    state
                }
            };
            assert_eq!(breaker.state(), *state, "step {number}");
        }
    }

    const NORMAL: Permit = Permit::Normal;
    const TRIAL: Permit = Permit::Trial;

    #[test]
    fn it_opens_and_closes_again() {
        play(&[
            Enter(0, Some(NORMAL), Closed),
            End(0, NORMAL, AttemptOutcome::Failed, Closed),
            End(0, NORMAL, AttemptOutcome::Failed, Open),
            Enter(9, None, Open),
            Enter(10, Some(TRIAL), HalfOpen),
            Enter(10, None, HalfOpen),
            Enter(99, None, HalfOpen),
            End(99, TRIAL, AttemptOutcome::Responded, Closed),
            Enter(99, Some(NORMAL), Closed),
            // The count began anew.
            End(99, NORMAL, AttemptOutcome::Failed, Closed),
        ]);
    }

    #[test]
    fn a_trial_that_fails_opens_it_for_another_pause() {
        play(&[
            End(0, NORMAL, AttemptOutcome::Failed, Closed),
            End(0, NORMAL, AttemptOutcome::Failed, Open),
            Enter(10, Some(TRIAL), HalfOpen),
            End(12, TRIAL, AttemptOutcome::Failed, Open),
            Enter(21, None, Open),
            Enter(22, Some(TRIAL), HalfOpen),
        ]);
    }

    #[test]
    fn a_trial_whose_caller_goes_away_makes_room_for_another() {
        play(&[
            End(0, NORMAL, AttemptOutcome::Failed, Closed),
            End(0, NORMAL, AttemptOutcome::Failed, Open),
            Enter(10, Some(TRIAL), HalfOpen),
            End(11, TRIAL, AttemptOutcome::Cancelled, Open),
            Enter(11, Some(TRIAL), HalfOpen),
        ]);
    }

    #[test]
    fn only_failures_in_a_row_count() {
        play(&[
            End(0, NORMAL, AttemptOutcome::Failed, Closed),
            End(0, NORMAL, AttemptOutcome::Responded, Closed),
            End(0, NORMAL, AttemptOutcome::Failed, Closed),
            End(0, NORMAL, AttemptOutcome::Cancelled, Closed),
            End(0, NORMAL, AttemptOutcome::Failed, Open),
        ]);
    }

    #[test]
    fn those_that_come_late() {
        play(&[
            End(0, NORMAL, AttemptOutcome::Failed, Closed),
            End(0, NORMAL, AttemptOutcome::Failed, Open),
            // It began before: neither prolongs the pause nor ends the trial.
            End(5, NORMAL, AttemptOutcome::Failed, Open),
            Enter(10, Some(TRIAL), HalfOpen),
            End(10, NORMAL, AttemptOutcome::Failed, HalfOpen),
            End(10, NORMAL, AttemptOutcome::Cancelled, HalfOpen),
            // An answer is good news, whoever brings it; what the trial says afterwards is one failure.
            End(11, NORMAL, AttemptOutcome::Responded, Closed),
            End(12, TRIAL, AttemptOutcome::Failed, Closed),
        ]);
    }
}
