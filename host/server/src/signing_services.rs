//! Signing and the audit log, opened in the order in which they need each other.
//!
//! The log's checkpoints are signed; signatures are put on record in the log.

use std::sync::Arc;
use std::time::Duration;

use postern_audit::{Log, PostTarget};
use postern_signing::Signing;

use crate::audited_signer::{AuditedSigner, LogCheckpointSigner};
use crate::metrics::Metrics;
use crate::recorder::Recorder;
use crate::settings::{Audit, Settings};
use crate::start_error::StartError;

/// How long the server that takes checkpoints may take.
const POST_TIMEOUT: Duration = Duration::from_secs(10);

/// What signs, and what keeps the record.
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

/// A client for servers that the system's CAs vouch for. It follows no redirects.
fn client() -> Result<reqwest::Client, String> {
    let built = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build();
    built.map_err(|error| error.to_string())
}
