//! The result of the last probe of the signing proxy.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::error::SigningError;

/// How long a result is reused.
const TTL: Duration = Duration::from_secs(1);

/// The last probe's result. Concurrent callers wait for one probe and share its result.
#[derive(Debug, Default)]
pub(crate) struct ProbeCache(Mutex<Option<(Instant, Result<(), SigningError>)>>);

impl ProbeCache {
    /// Returns the cached result if it is recent and `is_current` accepts it; else runs `probe` and caches its result.
    pub(crate) async fn get_or_probe(
        &self,
        is_current: impl FnOnce(&Result<(), SigningError>) -> bool,
        probe: impl Future<Output = Result<(), SigningError>>,
    ) -> Result<(), SigningError> {
        let mut last = self.0.lock().await;
        if let Some((at, result)) = last.as_ref()
            && at.elapsed() < TTL
            && is_current(result)
        {
            return result.clone();
        }
        let result = probe.await;
        *last = Some((Instant::now(), result.clone()));
        result
    }
}
