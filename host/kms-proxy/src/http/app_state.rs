//! The state that all routes share.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use postern_serve::LogQueue;
use tokio::sync::Mutex;

use crate::keyring::Keyring;
use crate::metrics::Metrics;
use crate::settings::Caller;

/// When the token was last checked, and whether it was healthy.
pub(super) type Health = Arc<Mutex<Option<(Instant, bool)>>>;

#[derive(Debug, Clone)]
pub(crate) struct AppState {
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) metrics: Arc<Metrics>,
    callers: Arc<RwLock<Arc<[Caller]>>>,
    /// Whether the listener is a Unix socket.
    pub(super) local: bool,
    pub(super) health: Health,
    pub(super) log: LogQueue,
}

impl AppState {
    pub(crate) fn new(keyring: Arc<Keyring>, callers: Vec<Caller>, local: bool, log: LogQueue) -> Self {
        Self {
            keyring,
            metrics: Arc::new(Metrics::new()),
            callers: Arc::new(RwLock::new(callers.into())),
            local,
            health: Health::default(),
            log,
        }
    }

    pub(crate) fn set_callers(&self, callers: Vec<Caller>) {
        *self.callers.write().unwrap_or_else(PoisonError::into_inner) = callers.into();
    }

    pub(super) fn callers(&self) -> Arc<[Caller]> {
        Arc::clone(&self.callers.read().unwrap_or_else(PoisonError::into_inner))
    }
}
