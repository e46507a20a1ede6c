//! How signing went lately.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::breaker::BreakerState;
use crate::error::SigningError;
use crate::mode::Mode;

/// For so long a signature shows that the next one will succeed too.
const RECENT: Duration = Duration::from_secs(5);

/// How signing is: what health endpoints tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Who signs.
    pub mode: Mode,
    /// Whether a proxy is required.
    pub required: bool,
    /// What the breaker does with requests.
    pub breaker: BreakerState,
    /// Why nothing is signed, if the last attempt failed.
    pub failing: Option<Failing>,
    /// When something was signed last.
    pub last_signed: Option<SystemTime>,
}

impl State {
    /// Whether the next signature is expected to succeed.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.failing.is_none() && self.breaker == BreakerState::Closed
    }
}

/// Why nothing is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Since when, without a success in between.
    pub since: SystemTime,
    /// The last error. Its code is [`SigningError::code`].
    pub error: SigningError,
}

#[derive(Debug, Default)]
struct Memory {
    failing: Option<Failing>,
    signed: Option<(Instant, SystemTime)>,
}

/// Remembers how the last attempt ended.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<Memory>);

impl Health {
    /// A request for a signature has ended: with one, unless there is an error.
    pub(crate) fn ended(&self, error: Option<&SigningError>) {
        match error {
            None => self.signed(),
            Some(error) => self.failed(error),
        }
    }

    fn signed(&self) {
        let mut memory = self.lock();
        memory.failing = None;
        memory.signed = Some((Instant::now(), SystemTime::now()));
    }

    pub(crate) fn failed(&self, error: &SigningError) {
        // What is wrong with the question, or was not even asked, says nothing new.
        if error.is_callers() || *error == SigningError::BreakerOpen {
            return;
        }
        let mut memory = self.lock();
        let since = memory
            .failing
            .as_ref()
            .map_or_else(SystemTime::now, |failing| failing.since);
        memory.failing = Some(Failing {
            since,
            error: error.clone(),
        });
    }

    /// Whether there was a signature a moment ago, and no failure since.
    pub(crate) fn is_fresh(&self) -> bool {
        let memory = self.lock();
        memory.failing.is_none() && memory.signed.is_some_and(|(at, _)| at.elapsed() < RECENT)
    }

    /// Why nothing is signed, and when something was last.
    pub(crate) fn recall(&self) -> (Option<Failing>, Option<SystemTime>) {
        let memory = self.lock();
        (memory.failing.clone(), memory.signed.map(|(_, at)| at))
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
