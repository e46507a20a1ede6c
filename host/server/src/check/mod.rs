//! `envoy.service.auth.v3.Authorization`: parses, decides and answers checks.

mod request;
mod response;

use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::auth::v3::authorization_server::Authorization;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use postern_audit::{Event, Kind};
use postern_policy::{Decision, DenialContent, Failure, PolicyDecision};
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use crate::loader::Loader;
use crate::log_throttle::LogThrottle;
use crate::metrics::Metrics;
use crate::recorder::{Caller, Recorder, micros, truncate};
use crate::trace;

use request::{InvalidCheck, PolicyCall};

/// The ext_authz service.
#[derive(Debug)]
pub(crate) struct Checks {
    loader: Arc<Loader>,
    metrics: Arc<Metrics>,
    /// The entry for requests that name none.
    default: Option<String>,
    recorder: Recorder,
    throttle: LogThrottle,
}

/// The result of a check, for logs and metrics.
struct CheckSummary<'a> {
    policy: &'a str,
    request_id: &'a str,
    result: &'static str,
    took: Duration,
}

impl Checks {
    pub(crate) fn new(
        loader: Arc<Loader>,
        metrics: Arc<Metrics>,
        default: Option<String>,
        recorder: Recorder,
    ) -> Self {
        Self {
            loader,
            metrics,
            default,
            recorder,
            throttle: LogThrottle::default(),
        }
    }

    async fn answer(&self, call: PolicyCall) -> CheckResponse {
        let _in_flight = self.metrics.check_started();
        let started = Instant::now();
        let PolicyCall { policy, request } = call;
        let id = request
            .as_ref()
            .map_or_else(|invalid| invalid.id.clone(), |request| request.id.clone());
        let decided = match (&policy, &request) {
            (_, Err(InvalidCheck { error, .. })) => Err(error.clone()),
            (None, Ok(_)) => Err(request::CheckError::NoPolicy),
            (Some(name), Ok(request)) => {
                let decided = self.loader.policies().decide(name, request).await;
                decided.map_err(request::CheckError::Failure)
            }
        };
        self.recorder
            .record(|| self.event(policy.as_deref(), &request, &decided, started.elapsed()));
        let summary = |result| CheckSummary {
            policy: policy.as_deref().unwrap_or_default(),
            request_id: &id,
            result,
            took: started.elapsed(),
        };
        match decided.map(|decided| decided.decision) {
            Ok(Decision::Allow(allowance)) => {
                self.report(&summary("allowed"), None);
                response::allow(allowance)
            }
            Ok(Decision::Deny(denial)) => {
                self.report(&summary("denied"), None);
                response::deny(denial, &id)
            }
            Err(request::CheckError::AmbiguousPath) => {
                self.report(&summary("path_ambiguous"), None);
                response::path_ambiguous(&id)
            }
            Err(error) => {
                let reason = error.to_string();
                self.report(&summary(error.code()), Some(&reason));
                response::failure(
                    matches!(error, request::CheckError::Failure(Failure::Overloaded)),
                    &id,
                )
            }
        }
    }

    /// The audit event of a decision. It holds nothing of the request's headers, query and body.
    fn event(
        &self,
        policy: Option<&str>,
        request: &Result<postern_policy::Request, InvalidCheck>,
        decided: &Result<PolicyDecision, request::CheckError>,
        took: Duration,
    ) -> Event {
        use postern_audit::Decision as Outcome;
        let (outcome, reason) = match decided.as_ref().map(|decided| &decided.decision) {
            Ok(Decision::Allow(_)) => (Outcome::Allowed, None),
            Ok(Decision::Deny(denial)) => (Outcome::Denied, Some((denial.status, reason(&denial.content)))),
            Err(error) => (Outcome::Failed, Some((503, error.code().to_owned()))),
        };
        let parsed = request.as_ref().ok();
        let identity = parsed.and_then(|request| request.identity.as_ref());
        let caller = Caller {
            subject: identity.map(|identity| identity.subject.as_str()),
            tenant: identity.and_then(|identity| identity.tenant.as_deref()),
            request_id: Some(match request {
                Ok(request) => &request.id,
                Err(invalid) => &invalid.id,
            }),
            rule: parsed.map(|request| request.rule.as_str()),
            policy,
        };
        let mut event = self.recorder.event_for(Kind::Policy, outcome, caller);
        if let Some((status, reason)) = reason {
            (event.status, event.reason) = (Some(status), Some(truncate(&reason)));
        }
        event.method = parsed.map(|request| truncate(&request.method));
        event.path = parsed.map(|request| truncate(&request.path));
        event.policy_digest = decided.as_ref().ok().map(|decided| decided.digest.to_string());
        event.latency_us = Some(micros(took));
        event
    }

    fn report(&self, summary: &CheckSummary<'_>, failure: Option<&str>) {
        // Names that no entry has would create an unlimited number of series.
        let policy = if self.loader.has_entry(summary.policy) {
            summary.policy
        } else {
            "unknown"
        };
        self.metrics.decided(policy, summary.result, summary.took);
        let (result, request_id) = (summary.result, summary.request_id);
        let took_us = u64::try_from(summary.took.as_micros()).unwrap_or(u64::MAX);
        tracing::debug!(policy, result, request_id, took_us, "decision");
        if let Some(reason) = failure
            && let Some(suppressed) = self.throttle.may_write(policy, result, Instant::now())
        {
            // It can contain text of a module, which must not forge log lines.
            let reason = reason.escape_debug();
            tracing::warn!(policy, result, request_id, suppressed, %reason, "no decision");
        }
    }
}

/// The reason code of a denial.
fn reason(content: &DenialContent) -> String {
    match content {
        DenialContent::Problem { code, .. } => code.clone(),
        DenialContent::Body(_) => "refused".to_owned(),
    }
}

#[tonic::async_trait]
impl Authorization for Checks {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let span = trace::span("check", request.metadata().as_ref());
        let call = PolicyCall::parse(request.into_inner(), self.default.as_deref())
            .ok_or_else(|| Status::invalid_argument("not a check of an HTTP request"))?;
        Ok(Response::new(self.answer(call).instrument(span).await))
    }
}
