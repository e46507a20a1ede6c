//! The state that all routes share.

use std::sync::Arc;

use axum::extract::FromRef;

use crate::audited_signer::AuditedSigner;
use crate::health::Health;
use crate::recorder::Recorder;

#[derive(Debug, Clone)]
pub(crate) struct AppState {
    pub(crate) signer: Option<Arc<AuditedSigner>>,
    pub(crate) recorder: Recorder,
    pub(crate) health: Arc<Health>,
}

impl FromRef<AppState> for Arc<Health> {
    fn from_ref(state: &AppState) -> Self {
        Self::clone(&state.health)
    }
}
