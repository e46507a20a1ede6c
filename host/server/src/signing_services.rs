//! Opens signing and the audit log, which depend on each other.
//!
//! Signing signs the log's checkpoints; the log records signatures.

use std::sync::Arc;
use std::time::Duration;

use postern_audit::{Log, PostTarget};
use postern_signing::Signing;

use crate::audited_signer::{AuditedSigner, LogCheckpointSigner};
use crate::metrics::Metrics;
use crate::recorder::Recorder;
use crate::settings::{Audit, Settings};
use crate::start_error::StartError;

/// Timeout for posting a checkpoint.
const POST_TIMEOUT: Duration = Duration::from_secs(10);

/// Signing, and the audit log that records it.
#[derive(Debug)]
pub(crate) struct SigningServices {
    pub(crate) recorder: Recorder,
    pub(crate) signer: Option<Arc<AuditedSigner>>,
}

impl SigningServices {
    pub(crate) async fn open(settings: &Settings, metrics: &Metrics) -> Result<Self, StartError> {
        let signing = match &settings.signing {
            Some(settings) => Some(Signing::start(settings)?),
            None => None,
        };
        if let Some(signing) = &signing {
            metrics.register(|registry| signing.metrics().register(registry));
        }
        let (log, name) = match (&settings.audit, &signing) {
            (Some(audit), Some(signing)) => {
                let name = audit.log.host.clone();
                (Some(open(audit, signing, metrics).await?), name)
            }
            _ => (None, String::new()),
        };
        let recorder = Recorder::new(log, name);
        let origin = settings.audit.as_ref().map(|audit| audit.log.origin.clone());
        let signer = signing.map(|signing| Arc::new(AuditedSigner::new(signing, recorder.clone(), origin)));
        Ok(Self { recorder, signer })
    }
}

async fn open(audit: &Audit, signing: &Signing, metrics: &Metrics) -> Result<Log, StartError> {
    let mut settings = audit.log.clone();
    if let Some(url) = &audit.url {
        let client = client().map_err(StartError::Client)?;
        settings.checkpoints.post = Some(PostTarget {
            client,
            url: url.clone(),
            timeout: POST_TIMEOUT,
        });
    }
    let signer = Arc::new(LogCheckpointSigner(signing.clone()));
    let log_metrics = postern_audit::Metrics::default();
    metrics.register(|registry| log_metrics.register(registry));
    Ok(Log::open(settings, signer, log_metrics).await?)
}

/// A client that trusts the system's CAs and follows no redirects.
fn client() -> Result<reqwest::Client, String> {
    let built = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build();
    built.map_err(|error| error.to_string())
}
