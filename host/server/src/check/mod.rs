//! `envoy.service.auth.v3.Authorization`: a check is read, decided and answered.

mod question;
mod reply;

use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::auth::v3::authorization_server::Authorization;
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use postern_policy::{Decision, Failure};
use tonic::{Request, Response, Status};

use crate::loader::Loader;
use crate::metrics::Metrics;
use crate::quiet::Quiet;

use question::{Question, Unusable};

/// Answers checks.
#[derive(Debug)]
pub(crate) struct Checks {
    loader: Arc<Loader>,
    metrics: Arc<Metrics>,
    /// The entry that decides where a request names none.
    default: Option<String>,
    quiet: Quiet,
}

/// What becomes of a check, for logs and metrics.
struct Told<'a> {
    policy: &'a str,
    request_id: &'a str,
    result: &'static str,
    took: Duration,
}

impl Checks {
    pub(crate) fn new(loader: Arc<Loader>, metrics: Arc<Metrics>, default: Option<String>) -> Self {
        Self {
            loader,
            metrics,
            default,
            quiet: Quiet::default(),
        }
    }

    async fn answer(&self, question: Question) -> CheckResponse {
        let _flight = self.metrics.flight();
        let started = Instant::now();
        let Question { policy, request } = question;
        let id = request
            .as_ref()
            .map_or_else(|unusable| unusable.id.clone(), |request| request.id.clone());
        let decision = match (&policy, &request) {
            (_, Err(Unusable { why, .. })) => Err(why.clone()),
            (None, Ok(_)) => Err(question::Why::Unnamed),
            (Some(name), Ok(request)) => {
                let decided = self.loader.policies().decide(name, request).await;
                decided
                    .map(|decided| decided.decision)
                    .map_err(question::Why::Failure)
            }
        };
        let told = |result| Told {
            policy: policy.as_deref().unwrap_or_default(),
            request_id: &id,
            result,
            took: started.elapsed(),
        };
        match decision {
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
            && let Some(suppressed) = self.quiet.may_write(policy, result, Instant::now())
        {
            // A module's words are among it: it must not forge lines.
            let reason = reason.escape_debug();
            tracing::warn!(policy, result, request_id, suppressed, %reason, "no decision");
        }
    }
}

#[tonic::async_trait]
impl Authorization for Checks {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let question = Question::read(request.into_inner(), self.default.as_deref())
            .ok_or_else(|| Status::invalid_argument("not a check of an HTTP request"))?;
        Ok(Response::new(self.answer(question).await))
    }
}
