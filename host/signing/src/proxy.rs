//! The KMS behind its proxy: asked within a deadline, through a circuit breaker.

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

/// How long a look at the proxy's health may take.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Proxy {
    client: Client,
    breaker: Mutex<Breaker>,
    /// Who must sign.
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

    /// Who must sign.
    pub(crate) fn selection(&self) -> Arc<SignerSelection> {
        self.selection.load_full()
    }

    /// Has others sign from now on; whether they are others.
    pub(crate) fn set_selection(&self, selection: &SignerSelection) -> Result<bool, SettingsError> {
        selection.check()?;
        let before = self.selection.swap(Arc::new(selection.clone()));
        Ok(*before != *selection)
    }

    /// Has a message signed: by the signer that is named here, or else in settings for the use, or else whom the proxy
    /// chooses. The signature is yet to be verified.
    pub(crate) async fn sign(
        &self,
        signer_id: Option<&str>,
        for_use: Use,
        message: &[u8],
    ) -> Result<(UnverifiedSignature, Duration), SigningError> {
        let selection = self.selection();
        let wanted = signer_id.or(selection.signer(for_use));
        // A proxy that is strict about the contract refuses fields that it does not know.
        let sent = wanted.filter(|_| signer_id.is_some() || selection.send_signer_id);
        let attempt = self.begin_attempt()?;
        let result = tokio::time::timeout(self.deadline, self.client.sign(sent, message))
            .await
            .unwrap_or(Err(SigningError::Timeout));
        attempt.end(match &result {
            Err(error) if error.is_transport() => AttemptOutcome::Failed,
            _ => AttemptOutcome::Responded,
        });
        let (signature, took) = result?;
        match wanted {
            Some(wanted) if wanted != signature.signer_id => Err(SigningError::SignerUnexpected {
                expected: wanted.to_owned(),
                found: signature.signer_id,
            }),
            _ => Ok((signature, took)),
        }
    }

    /// Asks the proxy how it is, breaker or not: it is not asked often, and work resumes the sooner.
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

/// A request that the breaker let pass. One whose caller goes away is dropped, and tells so.
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
