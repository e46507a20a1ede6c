//! `envoy.service.auth.v3.Authorization`: a check is read, decided and answered.

mod question;
mod reply;

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
use crate::record::{Caller, Recorder, cut, micros};
use crate::trace;

use question::{Question, Unusable};

/// Answers checks.
#[derive(Debug)]
pub(crate) struct Checks {
    loader: Arc<Loader>,
    metrics: Arc<Metrics>,
    /// The entry that decides where a request names none.
    default: Option<String>,
    recorder: Recorder,
    throttle: LogThrottle,
}

/// What becomes of a check, for logs and metrics.
struct Told<'a> {
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

    async fn answer(&self, question: Question) -> CheckResponse {
        let _flight = self.metrics.flight();
        let started = Instant::now();
        let Question { policy, request } = question;
        let id = request
            .as_ref()
            .map_or_else(|unusable| unusable.id.clone(), |request| request.id.clone());
        let decided = match (&policy, &request) {
            (_, Err(Unusable { why, .. })) => Err(why.clone()),
            (None, Ok(_)) => Err(question::Why::Unnamed),
            (Some(name), Ok(request)) => {
                let decided = self.loader.policies().decide(name, request).await;
                decided.map_err(question::Why::Failure)
            }
        };
        self.recorder
            .note(|| self.event(policy.as_deref(), &request, &decided, started.elapsed()));
        let told = |result| Told {
            policy: policy.as_deref().unwrap_or_default(),
            request_id: &id,
            result,
            took: started.elapsed(),
        };
        match decided.map(|decided| decided.decision) {
            Ok(Decision::Allow(allowance)) => {
                self.tell(&told("allowed"), None);
                reply::allow(allowance)
            }
            Ok(Decision::Deny(refusal)) => {
                self.tell(&told("denied"), None);
                reply::deny(refusal, &id)
            }
            Err(question::Why::Ambiguous) => {
                self.tell(&told("path_ambiguous"), None);
                reply::path_ambiguous(&id)
            }
            Err(why) => {
                let reason = why.to_string();
                self.tell(&told(why.code()), Some(&reason));
                reply::failure(matches!(why, question::Why::Failure(Failure::Overloaded)), &id)
            }
        }
    }

    /// A decision for the audit log: nothing of the request's headers, its query or its body.
    fn event(
        &self,
        policy: Option<&str>,
        request: &Result<postern_policy::Request, Unusable>,
        decided: &Result<PolicyDecision, question::Why>,
        took: Duration,
    ) -> Event {
        use postern_audit::Decision as Outcome;
        let (outcome, reason) = match decided.as_ref().map(|decided| &decided.decision) {
            Ok(Decision::Allow(_)) => (Outcome::Allowed, None),
            Ok(Decision::Deny(refusal)) => {
                (Outcome::Denied, Some((refusal.status, reason(&refusal.content))))
            }
            Err(why) => (Outcome::Failed, Some((503, why.code().to_owned()))),
        };
        let asked = request.as_ref().ok();
        let identity = asked.and_then(|request| request.identity.as_ref());
        let caller = Caller {
            subject: identity.map(|identity| identity.subject.as_str()),
            tenant: identity.and_then(|identity| identity.tenant.as_deref()),
            request_id: Some(match request {
                Ok(request) => &request.id,
                Err(unusable) => &unusable.id,
            }),
            rule: asked.map(|request| request.rule.as_str()),
            policy,
        };
        let mut event = self.recorder.event_of(Kind::Policy, outcome, caller);
        if let Some((status, reason)) = reason {
            (event.status, event.reason) = (Some(status), Some(cut(&reason)));
        }
        event.method = asked.map(|request| cut(&request.method));
        event.path = asked.map(|request| cut(&request.path));
        event.policy_digest = decided.as_ref().ok().map(|decided| decided.digest.to_string());
        event.latency_us = Some(micros(took));
        event
    }

    fn tell(&self, told: &Told<'_>, failure: Option<&str>) {
        // A name that no entry has would make a series of its own, and there is no end of such names.
        let policy = if self.loader.knows(told.policy) {
            told.policy
        } else {
            "unknown"
        };
        self.metrics.decided(policy, told.result, told.took);
        let (result, request_id) = (told.result, told.request_id);
        let took_us = u64::try_from(told.took.as_micros()).unwrap_or(u64::MAX);
        tracing::debug!(policy, result, request_id, took_us, "decision");
        if let Some(reason) = failure
            && let Some(suppressed) = self.throttle.may_write(policy, result, Instant::now())
        {
            // A module's words are among it: it must not forge lines.
            let reason = reason.escape_debug();
            tracing::warn!(policy, result, request_id, suppressed, %reason, "no decision");
        }
    }
}

/// Why a policy refused, in a word.
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
        let question = Question::read(request.into_inner(), self.default.as_deref())
            .ok_or_else(|| Status::invalid_argument("not a check of an HTTP request"))?;
        Ok(Response::new(self.answer(question).instrument(span).await))
    }
}
