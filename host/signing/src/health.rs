//! The result of recent signing attempts, for health endpoints and readiness.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::breaker::BreakerState;
use crate::error::SigningError;
use crate::mode::Mode;

/// How long a signature is taken as evidence that the next one will succeed.
const RECENT: Duration = Duration::from_secs(5);

/// The state of signing, as health endpoints show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningState {
    pub mode: Mode,
    /// Whether a signing proxy is required.
    pub required: bool,
    pub breaker: BreakerState,
    /// Set if the last attempt failed.
    pub failure: Option<SigningFailure>,
    /// Time of the last signature.
    pub last_signed: Option<SystemTime>,
}

impl SigningState {
    /// Whether the next signature is expected to succeed.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.failure.is_none() && self.breaker == BreakerState::Closed
    }
}

/// A failure that persists: no attempt has succeeded since it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningFailure {
    /// Time of the first failed attempt after the last success.
    pub since: SystemTime,
    /// The last error. Its code is [`SigningError::code`].
    pub error: SigningError,
}

#[derive(Debug, Default)]
struct LastResults {
    failure: Option<SigningFailure>,
    signed: Option<(Instant, SystemTime)>,
}

/// Records the results of signing attempts.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<LastResults>);

impl Health {
    /// Records the result of a signing request: a success if `error` is `None`.
    pub(crate) fn record(&self, error: Option<&SigningError>) {
        match error {
            None => self.record_success(),
            Some(error) => self.record_failure(error),
        }
    }

    fn record_success(&self) {
        let mut results = self.lock();
        results.failure = None;
        results.signed = Some((Instant::now(), SystemTime::now()));
    }

    pub(crate) fn record_failure(&self, error: &SigningError) {
        // An invalid request, or one that was never sent, says nothing about the proxy.
        if error.is_caller_error() || *error == SigningError::BreakerOpen {
            return;
        }
        let mut results = self.lock();
        let since = results
            .failure
            .as_ref()
            .map_or_else(SystemTime::now, |failure| failure.since);
        results.failure = Some(SigningFailure {
            since,
            error: error.clone(),
        });
    }

    /// Whether the last attempt failed.
    pub(crate) fn is_failing(&self) -> bool {
        self.lock().failure.is_some()
    }

    /// Whether the last attempt succeeded less than [`RECENT`] ago.
    pub(crate) fn is_fresh(&self) -> bool {
        let results = self.lock();
        results.failure.is_none() && results.signed.is_some_and(|(at, _)| at.elapsed() < RECENT)
    }

    /// The current failure, and the time of the last signature.
    pub(crate) fn last_results(&self) -> (Option<SigningFailure>, Option<SystemTime>) {
        let results = self.lock();
        (results.failure.clone(), results.signed.map(|(_, at)| at))
    }

    fn lock(&self) -> MutexGuard<'_, LastResults> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
