//! The KMS behind its proxy: asked within a deadline, through a circuit breaker.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::answer::Answer;
use crate::breaker::{Breaker, BreakerState, Outcome, Pass};
use crate::client::{Client, Wellness};
use crate::error::{SigningError, StartError};
use crate::metrics::Metrics;
use crate::settings::ProxySettings;

/// How long a look at the proxy's health may take.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Proxy {
    client: Client,
    breaker: Mutex<Breaker>,
    /// The one who must sign.
    signer_id: Option<String>,
    deadline: Duration,
    metrics: Metrics,
}

impl Proxy {
    pub(crate) fn new(settings: &ProxySettings, metrics: Metrics) -> Result<Self, StartError> {
        settings.check()?;
        Ok(Self {
            client: Client::new(settings, metrics.clone())?,
            breaker: Mutex::new(Breaker::new(settings.breaker)),
            signer_id: settings.signer_id.clone(),
            deadline: settings.deadline,
            metrics,
        })
    }

    /// Has a payload signed: by the signer that is named here, or else in settings, or else whom the proxy chooses. The
    /// signature is yet to be verified.
    pub(crate) async fn sign(
        &self,
        signer_id: Option<&str>,
        payload: &[u8],
    ) -> Result<(Answer, Duration), SigningError> {
        let wanted = signer_id.or(self.signer_id.as_deref());
        let entered = self.enter()?;
        let result = tokio::time::timeout(self.deadline, self.client.sign(wanted, payload))
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
    pub(crate) async fn wellness(&self) -> Result<Wellness, SigningError> {
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
