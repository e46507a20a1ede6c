//! Whether signing would succeed, asked when nobody has signed for a while.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::client::ProxyHealth;
use crate::error::SigningError;
use crate::proxy::Proxy;
use crate::signing::{Signing, Source};

/// For so long what was found counts, however often it is asked.
const FRESH: Duration = Duration::from_secs(1);

/// How long a test may take.
const LOOK: Duration = Duration::from_secs(1);

/// What is signed to see whether signatures count.
const TEST: &[u8] = b"postern tests its signing proxy; this authorises nothing";

/// What was found last. Who asks while somebody is asking already gets the same answer.
#[derive(Debug, Default)]
pub(crate) struct Probe(Mutex<Option<(Instant, Result<(), SigningError>)>>);

impl Signing {
    /// Whether the next signature is expected to succeed: for readiness. A signature of a moment ago says so; else the
    /// proxy is asked ([`Self::probe`]).
    ///
    /// # Errors
    /// Why it is not.
    pub async fn ready(&self) -> Result<(), SigningError> {
        if self.health().is_fresh() {
            return Ok(());
        }
        self.probe().await
    }

    /// Asks the proxy's `GET /healthz`, at most once a second and for at most one second. Where that cannot tell, a test
    /// is signed, for at most as long: if the proxy has no such endpoint (404, 405), or if it gave no signature that
    /// counts when it was last asked for one. So a host that gets no work while it is not ready notices that all is well
    /// again.
    ///
    /// # Errors
    /// Why nothing could be signed.
    pub async fn probe(&self) -> Result<(), SigningError> {
        let Source::Proxy(proxy) = self.source() else {
            return Ok(());
        };
        let mut last = self.last_probe().0.lock().await;
        let failing = self.health().recall().0.is_some();
        // What was found before a signature failed says nothing any more.
        let fresh =
            |(at, found): &&(Instant, Result<_, _>)| at.elapsed() < FRESH && (found.is_err() || !failing);
        if let Some((_, found)) = last.as_ref().filter(fresh) {
            return found.clone();
        }
        let found = self.ask(proxy).await;
        *last = Some((Instant::now(), found.clone()));
        found
    }

    async fn ask(&self, proxy: &Proxy) -> Result<(), SigningError> {
        let wellness = proxy
            .wellness()
            .await
            .inspect_err(|error| self.health().failed(error))?;
        let (failing, _) = self.health().recall();
        if wellness == ProxyHealth::Well && failing.is_none() {
            return Ok(());
        }
        let signed = tokio::time::timeout(LOOK, self.sign(TEST)).await;
        signed.unwrap_or(Err(SigningError::Timeout)).map(drop)
    }
}
