//! A denial: the response to a refused request, RFC 9457 problem details.

use std::rc::Rc;

use serde::Serialize;

use crate::Reason;
use crate::audit::DecisionContext;
use crate::policy::Reply;
use crate::ports::{Observation, Ports};

/// The response to a refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// The exact reason.
    pub reason: Reason,
    /// The matched rule's name, if any.
    pub rule: Option<String>,
    /// Header fields beside `content-type`: `WWW-Authenticate`, `Retry-After`, `RateLimit` and so on.
    pub headers: Vec<(&'static str, Rc<str>)>,
    /// A policy's own response, in place of the problem document.
    pub reply: Option<Box<Reply>>,
    /// The decision's context, for the audit log.
    pub context: DecisionContext,
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

impl From<Reason> for Denial {
    fn from(reason: Reason) -> Self {
        Self::new(reason)
    }
}

impl Denial {
    /// The media type of [`body`](Self::body).
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    /// The denial of a request that the gate could not evaluate at all.
    #[must_use]
    pub fn gate_failed() -> Self {
        Self::new(Reason::GateFailed).with_retry_after()
    }

    /// The denial of a request that no rule decides on, reported.
    pub(crate) fn unrouted(reason: Reason, ports: &Ports<'_>) -> Self {
        ports
            .observer
            .observe(&Observation::Refused { rule: None, reason });
        Self::new(reason).with_retry_after()
    }

    pub(crate) fn new(reason: Reason) -> Self {
        Self {
            reason,
            rule: None,
            headers: Vec::new(),
            reply: None,
            context: DecisionContext::default(),
        }
    }

    /// Adds `Retry-After` to the gate's own 503: the request may succeed a second later.
    pub(crate) fn with_retry_after(self) -> Self {
        if self.status() == 503 && self.reply.is_none() {
            self.header("retry-after", "1")
        } else {
            self
        }
    }

    pub(crate) fn reply(mut self, reply: Reply) -> Self {
        self.reply = Some(Box::new(reply));
        self
    }

    /// The HTTP status: the reason's, or the policy's own.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.reply
            .as_ref()
            .map_or(self.reason.status(), |reply| reply.status)
    }

    /// The gRPC status, where it differs from the one that a proxy derives from the HTTP status: a limit would
    /// otherwise look like an outage, and a client error like a server error.
    #[must_use]
    pub fn grpc_status(&self) -> Option<i32> {
        const INVALID_ARGUMENT: i32 = 3;
        const RESOURCE_EXHAUSTED: i32 = 8;
        match self.status() {
            400 => Some(INVALID_ARGUMENT),
            413 | 429 => Some(RESOURCE_EXHAUSTED),
            _ => None,
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<Rc<str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The problem document (RFC 9457), which is the body unless a policy made its own: a status, a code that scripts
    /// can branch on, and the request's id. It does not say what was expected or which part was wrong.
    #[must_use]
    pub fn body(&self, request_id: Option<&str>) -> String {
        let status = self.reason.status();
        let problem = Problem {
            // RFC 9457, section 4.2.1: the title of this type is the status's phrase.
            r#type: "about:blank",
            title: phrase(status),
            status,
            code: self.reason.code(),
            request_id,
        };
        serde_json::to_string(&problem).unwrap_or_default()
    }

    /// The response-code details in the proxy's access log: `postern:<rule>:<reason>`.
    #[must_use]
    pub fn details(&self) -> String {
        format!(
            "postern:{}:{}",
            self.rule.as_deref().unwrap_or("-"),
            self.reason.name()
        )
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        _ => "Service Unavailable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_clients_get_statuses_that_a_proxy_would_not_derive() {
        for (reason, status) in [
            (Reason::LimitExceeded, Some(8)),
            (Reason::BodyTooLarge, Some(8)),
            (Reason::PathAmbiguous, Some(3)),
            (Reason::HostAmbiguous, Some(3)),
            (Reason::UpgradeRefused, Some(3)),
            (Reason::CredentialsMissing, None),
            (Reason::RoleMissing, None),
            (Reason::GateFailed, None),
        ] {
            assert_eq!(Denial::new(reason).grpc_status(), status, "{reason:?}");
        }
    }

    #[test]
    fn every_reason_has_a_unique_name_and_a_known_status() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            // The general sentence does not tell a client what it can do.
            let general = reason.sentence() == Reason::GateFailed.sentence();
            assert_eq!(general, reason == Reason::GateFailed, "{reason:?}");
        }
        for reason in Reason::ALL {
            let body: serde_json::Value =
                serde_json::from_str(&Denial::new(reason).body(Some("r-1"))).unwrap();
            assert_eq!(body["status"], reason.status());
            assert_eq!(body["code"], reason.code());
            assert_eq!(body["request_id"], "r-1");
            assert_eq!(body["title"] == "Service Unavailable", reason.status() == 503);
        }
    }
}
