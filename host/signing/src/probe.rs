//! Readiness: whether the next signature is expected to succeed, checked without waiting for a caller's request.

use std::time::Duration;

use crate::client::ProxyHealth;
use crate::error::SigningError;
use crate::proxy::Proxy;
use crate::signing::{Backend, Signing};

/// Deadline of a test signature.
const TEST_SIGNATURE_TIMEOUT: Duration = Duration::from_secs(1);

/// The payload of a test signature.
const TEST_PAYLOAD: &[u8] = b"postern tests its signing proxy; this authorises nothing";

impl Signing {
    /// Whether the next signature is expected to succeed. A recent signature is sufficient evidence; otherwise the proxy
    /// is probed ([`Self::probe`]).
    ///
    /// # Errors
    /// Why signing is expected to fail.
    pub async fn ready(&self) -> Result<(), SigningError> {
        if self.health().is_fresh() {
            return Ok(());
        }
        self.probe().await
    }

    /// Calls the proxy's `GET /healthz`, at most once a second and with a deadline of one second. A test payload is signed
    /// as well, with the same deadline, if the proxy has no such endpoint (404, 405) or if the last signature failed. So a
    /// host that gets no requests while it is not ready notices when signing works again.
    ///
    /// # Errors
    /// Why signing is expected to fail.
    pub async fn probe(&self) -> Result<(), SigningError> {
        let Backend::Proxy(proxy) = self.backend() else {
            return Ok(());
        };
        // A success from before a failed signature is out of date.
        let is_current = |result: &Result<_, _>| result.is_err() || !self.health().is_failing();
        self.probe_cache()
            .get_or_probe(is_current, self.probe_proxy(proxy))
            .await
    }

    async fn probe_proxy(&self, proxy: &Proxy) -> Result<(), SigningError> {
        let health = proxy
            .check_health()
            .await
            .inspect_err(|error| self.health().record_failure(error))?;
        if health == ProxyHealth::Healthy && !self.health().is_failing() {
            return Ok(());
        }
        let signed = tokio::time::timeout(TEST_SIGNATURE_TIMEOUT, self.sign(TEST_PAYLOAD)).await;
        signed.unwrap_or(Err(SigningError::Timeout)).map(drop)
    }
}
