//! Loads everything without serving, for `postern serve --check`.

use std::collections::BTreeMap;
use std::sync::Arc;

use postern_policy::{PolicyStatus, Signer, TestSigner};
use postern_serve::tls::server_config;
use postern_signing::Signing;

use crate::host::{GATE_TLS, policies};
use crate::settings::Settings;
use crate::start_error::StartError;

/// The result of loading everything.
#[derive(Debug)]
pub struct Inspection {
    /// The entries, loaded or not.
    pub policies: Vec<PolicyStatus>,
    /// Why entries cannot be served, by entry.
    pub errors: BTreeMap<String, String>,
}

/// Loads and verifies everything that the settings name, without serving. Does not call the KMS, and does not open the
/// audit log: a running host may have it open.
///
/// # Errors
/// If loading cannot even be attempted.
pub async fn inspect(settings: &Settings) -> Result<Inspection, StartError> {
    if let Some(files) = &settings.gate.tls {
        server_config(files, GATE_TLS)?;
    }
    if let Some(signing) = &settings.signing {
        Signing::start(signing)?;
    }
    // Policies with the grant `signer` get test signatures, for development only.
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
