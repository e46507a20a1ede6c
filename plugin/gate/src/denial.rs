//! A refusal as the client gets it: RFC 9457 problem details, with what it needs to do better.

use std::rc::Rc;

use serde::Serialize;

use crate::Reason;
use crate::audit::DecisionContext;
use crate::policy::Reply;

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why, exactly.
    pub reason: Reason,
    /// The rule that refused, if one matched.
    pub rule: Option<String>,
    /// Header fields of the reply beside `content-type`: `WWW-Authenticate`, `Retry-After`, `RateLimit` and so on.
    pub headers: Vec<(&'static str, Rc<str>)>,
    /// The reply that a policy wants, in place of the problem document.
    pub reply: Option<Box<Reply>>,
    /// What the audit log is told of the way so far.
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

impl Denial {
    /// The media type of [`body`](Self::body).
    pub const CONTENT_TYPE: &'static str = "application/problem+json";

    /// The refusal of a request that could not even be put to the gate.
    #[must_use]
    pub fn gate_failed() -> Self {
        Self::new(Reason::GateFailed).header("retry-after", "1")
    }

    /// The refusal of a request that cannot be let wait for keys.
    #[must_use]
    pub fn keys_unavailable() -> Self {
        Self::new(Reason::KeysUnavailable)
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

    pub(crate) fn reply(mut self, reply: Reply) -> Self {
        self.reply = Some(Box::new(reply));
        self
    }

    /// The reply's status: the reason's, or the policy's own.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.reply
            .as_ref()
            .map_or(self.reason.status(), |reply| reply.status)
    }

    /// The gRPC status, where it is not the one that a proxy derives from the HTTP status: without it a limit would look
    /// like an outage, and what the client did wrong like a fault of the server's.
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

    /// The reply's body where no policy made one (RFC 9457): a status, a code that scripts can branch on and the request's id. Neither
    /// what was expected nor which part was wrong.
    #[must_use]
    pub fn body(&self, request_id: Option<&str>) -> String {
        let status = self.reason.status();
        let problem = Problem {
            // RFC 9457, section 4.2.1: the title is then the status's own phrase.
            r#type: "about:blank",
            title: phrase(status),
            status,
            code: self.reason.code(),
            request_id,
        };
        serde_json::to_string(&problem).unwrap_or_default()
    }

    /// What the proxy's access log shows as response-code details: `postern:<rule>:<reason>`.
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
    fn grpc_clients_are_told_what_a_proxy_would_not_derive() {
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
    fn every_reason_has_a_name_of_its_own_and_a_known_status() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
        for reason in Reason::ALL {
            // A client that gets the general sentence learns nothing of what it could do.
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
