//! Settings tried without serving: what `postern serve --check` shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use postern_policy::{PolicyStatus, Signer, TestSigner};
use postern_serve::tls::server_config;
use postern_signing::Signing;

use crate::host::{GATE_TLS, policies};
use crate::settings::Settings;
use crate::start_error::StartError;

/// What loading everything comes to.
#[derive(Debug)]
pub struct Inspection {
    /// The entries, loaded or not.
    pub policies: Vec<PolicyStatus>,
    /// Why entries cannot be served, by name.
    pub errors: BTreeMap<String, String>,
}

/// Loads and verifies all that the settings name, and serves nothing. The KMS is not asked, and the audit log is not
/// opened: the host that serves may have it open.
///
/// # Errors
/// If not even loading can be tried.
pub async fn inspect(settings: &Settings) -> Result<Inspection, StartError> {
    if let Some(files) = &settings.gate.tls {
        server_config(files, GATE_TLS)?;
    }
    if let Some(signing) = &settings.signing {
        Signing::start(signing)?;
    }
    // What is granted signatures gets some of no worth.
    let signer = settings
        .signing
        .as_ref()
        .map(|_| Arc::new(TestSigner) as Arc<dyn Signer>);
    let policies = policies(settings, signer).await?.without_recording_serials();
    policies.load().await;
    Ok(Inspection {
        policies: policies.status(),
        errors: policies.faults(),
    })
}
