//! The signing proxy in front of the KMS, called with a deadline and through a circuit breaker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use postern_signers::Use;

use crate::breaker::{AttemptOutcome, Breaker, BreakerState, Permit};
use crate::client::{Client, ProxyHealth};
use crate::error::{SigningError, StartError};
use crate::metrics::Metrics;
use crate::settings::{ProxySettings, SettingsError, SignerSelection};
use crate::unverified_signature::UnverifiedSignature;

/// Deadline of a health check.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Proxy {
    client: Client,
    breaker: Mutex<Breaker>,
    selection: ArcSwap<SignerSelection>,
    deadline: Duration,
    metrics: Metrics,
}

impl Proxy {
    pub(crate) fn new(settings: &ProxySettings, metrics: Metrics) -> Result<Self, StartError> {
        settings.check()?;
        Ok(Self {
            client: Client::new(settings, metrics.clone())?,
            breaker: Mutex::new(Breaker::new(settings.breaker)),
            selection: ArcSwap::from_pointee(settings.selection.clone()),
            deadline: settings.deadline,
            metrics,
        })
    }

    /// Which signers must sign.
    pub(crate) fn selection(&self) -> Arc<SignerSelection> {
        self.selection.load_full()
    }

    /// Sets which signers must sign from now on. Returns whether that is a change.
    pub(crate) fn set_selection(&self, selection: &SignerSelection) -> Result<bool, SettingsError> {
        selection.check()?;
        let before = self.selection.swap(Arc::new(selection.clone()));
        Ok(*before != *selection)
    }

    /// Requests a signature: by `signer_id`, else by the signer that the settings name for the use, else by the signer that
    /// the proxy chooses. The signature is not verified here.
    pub(crate) async fn sign(
        &self,
        signer_id: Option<&str>,
        for_use: Use,
        message: &[u8],
    ) -> Result<(UnverifiedSignature, Duration), SigningError> {
        let selection = self.selection();
        let requested = signer_id.or(selection.signer(for_use));
        // A strict proxy may reject requests with fields that it does not know.
        let sent = requested.filter(|_| signer_id.is_some() || selection.send_signer_id);
        let attempt = self.begin_attempt()?;
        let result = tokio::time::timeout(self.deadline, self.client.sign(sent, message))
            .await
            .unwrap_or(Err(SigningError::Timeout));
        attempt.end(match &result {
            Err(error) if error.is_transport() => AttemptOutcome::Failed,
            _ => AttemptOutcome::Responded,
        });
        let (signature, elapsed) = result?;
        match requested {
            Some(requested) if requested != signature.signer_id => Err(SigningError::SignerUnexpected {
                expected: requested.to_owned(),
                found: signature.signer_id,
            }),
            _ => Ok((signature, elapsed)),
        }
    }

    /// Queries the proxy's health, bypassing the breaker: health checks are rare, and signing resumes sooner.
    pub(crate) async fn check_health(&self) -> Result<ProxyHealth, SigningError> {
        tokio::time::timeout(HEALTH_TIMEOUT, self.client.check_health())
            .await
            .unwrap_or(Err(SigningError::Timeout))
    }

    pub(crate) fn breaker(&self) -> BreakerState {
        self.lock().state()
    }

    fn begin_attempt(&self) -> Result<AttemptGuard<'_>, SigningError> {
        let mut breaker = self.lock();
        let permit = breaker
            .try_acquire(Instant::now())
            .ok_or(SigningError::BreakerOpen)?;
        self.metrics.breaker(breaker.state());
        Ok(AttemptGuard {
            proxy: self,
            permit,
            outcome: AttemptOutcome::Cancelled,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that the breaker permitted. Records its outcome when dropped: cancelled, unless [`Self::end`] is called.
struct AttemptGuard<'a> {
    proxy: &'a Proxy,
    permit: Permit,
    outcome: AttemptOutcome,
}

impl AttemptGuard<'_> {
    fn end(mut self, outcome: AttemptOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for AttemptGuard<'_> {
    fn drop(&mut self) {
        let mut breaker = self.proxy.lock();
        breaker.record(self.permit, self.outcome, Instant::now());
        self.proxy.metrics.breaker(breaker.state());
    }
}
