//! Liveness, readiness and strict health of the host.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use postern_audit::Time;
use serde::Serialize;

use crate::audited_signer::AuditedSigner;
use crate::license::License;
use crate::loader::Loader;
use crate::recorder::Recorder;
use postern_serve::json;

/// The sources of the health report.
#[derive(Debug)]
pub(crate) struct Health {
    pub(crate) loader: Arc<Loader>,
    pub(crate) signer: Option<Arc<AuditedSigner>>,
    pub(crate) recorder: Recorder,
    pub(crate) license: Option<License>,
}

/// The readiness of the host, and what is wrong.
#[derive(Debug, Serialize)]
struct HealthReport {
    ready: bool,
    /// Faults of policies, by entry.
    faults: BTreeMap<String, String>,
    /// Faults of other parts: `signing`, `signers`, `audit`, `checkpoints`, `license`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    parts: BTreeMap<&'static str, String>,
}

impl HealthReport {
    fn response(&self) -> Response {
        let status = if self.ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        json(status, self)
    }
}

impl Health {
    /// Whether requests can be decided, signed and recorded.
    async fn ready(&self) -> HealthReport {
        let policies = self.loader.readiness();
        let mut parts = BTreeMap::new();
        if let Some(signer) = self.signer.as_ref().filter(|signer| signer.is_required())
            && let Some(fault) = signer.fault().await
        {
            parts.insert("signing", fault);
        }
        if let Some(fault) = self.recorder.fault() {
            parts.insert("audit", fault);
        }
        HealthReport {
            ready: policies.ready && parts.is_empty(),
            faults: policies.faults,
            parts,
        }
    }

    /// Whether nothing at all is wrong, neither with the policies and their files nor with signing, the log or the
    /// licence.
    async fn strict(&self) -> HealthReport {
        let mut report = self.ready().await;
        if let Some(signer) = self.signer.as_ref().filter(|signer| !signer.is_required())
            && let Some(fault) = signer.fault().await
        {
            report.parts.insert("signing", fault);
        }
        let faults = [
            ("checkpoints", self.recorder.checkpoint_error()),
            (
                "signers",
                self.signer.as_ref().and_then(|signer| signer.registry_error()),
            ),
            ("license", self.license_fault(SystemTime::now())),
        ];
        for (part, fault) in faults {
            report.parts.extend(fault.map(|fault| (part, fault)));
        }
        report.ready = report.ready && report.faults.is_empty() && report.parts.is_empty();
        report
    }

    fn license_fault(&self, now: SystemTime) -> Option<String> {
        let license = self.license.as_ref()?;
        license.fault(now).map(|fault| fault.to_string())
    }

    /// The expiry of the licence, and whether the licence is valid now.
    pub(crate) fn license(&self) -> Option<(Option<u64>, bool)> {
        let license = self.license.as_ref()?;
        Some((license.until(), license.fault(SystemTime::now()).is_none()))
    }
}

#[derive(Serialize)]
struct LivenessResponse {
    status: &'static str,
    ts: Time,
}

/// `{"status":"ok","ts":"…"}`: the process responds.
pub(crate) async fn alive() -> Response {
    let ts = Time::of(SystemTime::now());
    json(StatusCode::OK, &LivenessResponse { status: "ok", ts })
}

/// 200 if requests can be decided, signed and recorded; otherwise 503 with the faults.
pub(crate) async fn ready(State(health): State<Arc<Health>>) -> Response {
    health.ready().await.response()
}

/// 200 if nothing at all is wrong; otherwise 503 with the faults.
pub(crate) async fn strict(State(health): State<Arc<Health>>) -> Response {
    health.strict().await.response()
}
