//! The KMS behind its proxy: asked within a deadline, through a circuit breaker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use postern_signers::Use;

use crate::answer::Answer;
use crate::breaker::{Breaker, BreakerState, Outcome, Pass};
use crate::client::{Client, ProxyHealth};
use crate::error::{SigningError, StartError};
use crate::metrics::Metrics;
use crate::settings::{Asked, ProxySettings, SettingsError};

/// How long a look at the proxy's health may take.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Proxy {
    client: Client,
    breaker: Mutex<Breaker>,
    /// Who must sign.
    asked: ArcSwap<Asked>,
    deadline: Duration,
    metrics: Metrics,
}

impl Proxy {
    pub(crate) fn new(settings: &ProxySettings, metrics: Metrics) -> Result<Self, StartError> {
        settings.check()?;
        Ok(Self {
            client: Client::new(settings, metrics.clone())?,
            breaker: Mutex::new(Breaker::new(settings.breaker)),
            asked: ArcSwap::from_pointee(settings.asked.clone()),
            deadline: settings.deadline,
            metrics,
        })
    }

    /// Who must sign.
    pub(crate) fn asked(&self) -> Arc<Asked> {
        self.asked.load_full()
    }

    /// Has others sign from now on; whether they are others.
    pub(crate) fn ask(&self, asked: &Asked) -> Result<bool, SettingsError> {
        asked.check()?;
        let before = self.asked.swap(Arc::new(asked.clone()));
        Ok(*before != *asked)
    }

    /// Has a message signed: by the signer that is named here, or else in settings for the use, or else whom the proxy
    /// chooses. The signature is yet to be verified.
    pub(crate) async fn sign(
        &self,
        signer_id: Option<&str>,
        what: Use,
        message: &[u8],
    ) -> Result<(Answer, Duration), SigningError> {
        let asked = self.asked();
        let wanted = signer_id.or(asked.signer(what));
        // A proxy that is strict about the contract refuses fields that it does not know.
        let said = wanted.filter(|_| signer_id.is_some() || asked.send_signer_id);
        let entered = self.enter()?;
        let result = tokio::time::timeout(self.deadline, self.client.sign(said, message))
            .await
            .unwrap_or(Err(SigningError::Timeout));
        entered.end(match &result {
            Err(error) if error.is_transport() => Outcome::Failed,
            _ => Outcome::Answered,
        });
        let (answer, took) = result?;
        match wanted {
            Some(wanted) if wanted != answer.signer_id => Err(SigningError::SignerUnexpected {
                expected: wanted.to_owned(),
                found: answer.signer_id,
            }),
            _ => Ok((answer, took)),
        }
    }

    /// Asks the proxy how it is, breaker or not: it is not asked often, and work resumes the sooner.
    pub(crate) async fn wellness(&self) -> Result<ProxyHealth, SigningError> {
        tokio::time::timeout(LOOK, self.client.wellness())
            .await
            .unwrap_or(Err(SigningError::Timeout))
    }

    pub(crate) fn breaker(&self) -> BreakerState {
        self.lock().state()
    }

    fn enter(&self) -> Result<Entered<'_>, SigningError> {
        let mut breaker = self.lock();
        let pass = breaker.enter(Instant::now()).ok_or(SigningError::BreakerOpen)?;
        self.metrics.breaker(breaker.state());
        Ok(Entered {
            proxy: self,
            pass,
            outcome: Outcome::Abandoned,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that the breaker let pass. One whose caller goes away is dropped, and tells so.
struct Entered<'a> {
    proxy: &'a Proxy,
    pass: Pass,
    outcome: Outcome,
}

impl Entered<'_> {
    fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        let mut breaker = self.proxy.lock();
        breaker.ended(self.pass, self.outcome, Instant::now());
        self.proxy.metrics.breaker(breaker.state());
    }
}
