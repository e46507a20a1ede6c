//! Settings tried without serving: what `postern serve --check` shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use postern_policy::{PolicyStatus, Rehearsal, Signer};

use crate::host::{StartError, policies};
use crate::settings::Settings;

/// What loading everything comes to.
#[derive(Debug)]
pub struct Inspection {
    /// The entries, loaded or not.
    pub policies: Vec<PolicyStatus>,
    /// Why entries cannot be served, by name.
    pub errors: BTreeMap<String, String>,
}

/// Loads and verifies all that the settings name, and serves nothing.
///
/// # Errors
/// If not even loading can be tried.
pub async fn inspect(settings: &Settings) -> Result<Inspection, StartError> {
    // What is granted signatures gets some of no worth.
    let signer = settings
        .signing
        .as_ref()
        .map(|_| Arc::new(Rehearsal) as Arc<dyn Signer>);
    let policies = policies(settings, signer)?;
    policies.load().await;
    Ok(Inspection {
        policies: policies.status().await,
        errors: policies.faults(),
    })
}
