//! The state that all routes share.

use std::sync::Arc;

use axum::extract::FromRef;

use crate::audited_signer::AuditedSigner;
use crate::health::Health;
use crate::loader::Loader;
use crate::metrics::Metrics;

#[derive(Debug, Clone)]
pub(crate) struct AppState {
    pub(crate) loader: Arc<Loader>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
    pub(crate) signer: Option<Arc<AuditedSigner>>,
}

impl FromRef<AppState> for Arc<Health> {
    fn from_ref(state: &AppState) -> Self {
        Self::clone(&state.health)
    }
}
