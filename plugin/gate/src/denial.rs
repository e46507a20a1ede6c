//! A refusal as the client gets it: RFC 9457 problem details, with what it needs to do better.

use std::rc::Rc;

use serde::Serialize;

use crate::Reason;
use crate::audit::Passage;
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
    pub passage: Passage,
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
            passage: Passage::default(),
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
    fn every_reason_has_a_name_of_its_own_and_a_known_status() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
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
