//! A circuit breaker: suspends requests to a proxy that does not respond, and sends a single trial request after a pause.
//!
//! Only consecutive transport failures open it. A response of any kind, even an invalid one, shows that the proxy is
//! reachable and closes it. The caller passes in the time.

use std::time::{Duration, Instant};

/// When the breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Consecutive failures after which the breaker opens.
    pub failures: u32,
    /// Time from opening to the trial request.
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

/// How the breaker treats requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// A trial request is in progress; others are refused.
    HalfOpen,
    /// Requests are refused.
    Open,
}

impl BreakerState {
    /// The name in health reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half_open",
            Self::Open => "open",
        }
    }
}

/// How a request to the proxy ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptOutcome {
    /// The proxy responded, validly or not.
    Responded,
    /// No response was received.
    Failed,
    /// The caller dropped the request before either.
    Cancelled,
}

/// Permission to send a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permit {
    /// The breaker is closed.
    Normal,
    /// The breaker is half-open: this is the trial request.
    Trial,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InnerState {
    /// With the number of consecutive failures.
    Closed(u32),
    /// With the time it opened.
    Open(Instant),
    HalfOpen,
}

/// The circuit breaker of a proxy.
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

    /// The current state; an `Open` breaker whose pause is over is still `Open`.
    pub(crate) fn state(&self) -> BreakerState {
        match self.state {
            InnerState::Closed(_) => BreakerState::Closed,
            InnerState::Open(_) => BreakerState::Open,
            InnerState::HalfOpen => BreakerState::HalfOpen,
        }
    }

    /// Returns a permit if a request may be sent. Each permit must be passed to [`Self::record`].
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

    /// Records the outcome of a request for which a permit was given.
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
            // A cancelled trial has no result, so the next request is a trial at once.
            (AttemptOutcome::Cancelled, InnerState::HalfOpen) if permit == Permit::Trial => {
                InnerState::Open(now.checked_sub(self.settings.pause).unwrap_or(now))
            }
            // A request from before the breaker opened: it changes nothing.
            (_, state) => state,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BreakerState::{Closed, HalfOpen, Open};

    /// An action at a time in seconds, and the state expected after it.
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
            // The count restarted at zero.
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
    fn a_cancelled_trial_permits_another_at_once() {
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
    fn requests_from_before_it_opened_neither_extend_the_pause_nor_end_the_trial() {
        play(&[
            End(0, NORMAL, AttemptOutcome::Failed, Closed),
            End(0, NORMAL, AttemptOutcome::Failed, Open),
            // Sent before the breaker opened.
            End(5, NORMAL, AttemptOutcome::Failed, Open),
            Enter(10, Some(TRIAL), HalfOpen),
            End(10, NORMAL, AttemptOutcome::Failed, HalfOpen),
            End(10, NORMAL, AttemptOutcome::Cancelled, HalfOpen),
            // Any response closes the breaker; the trial's failure afterwards counts as one.
            End(11, NORMAL, AttemptOutcome::Responded, Closed),
            End(12, TRIAL, AttemptOutcome::Failed, Closed),
        ]);
    }
}
