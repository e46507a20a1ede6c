//! Events, in the format of the audit log.

use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;
use uuid::{Builder, Uuid};

use super::{DecisionContext, RequestHead, truncate};
use crate::Reason;
use crate::config::AuditMode;
use crate::gate::Gate;

/// The longest text that the log accepts, in bytes.
const MAX_TEXT: usize = 256;

/// Fields of an event that the shell provides.
#[derive(Debug, Clone, Copy)]
pub struct EventMeta<'a> {
    /// Random bytes for the event's id.
    pub random: [u8; 10],
    /// The time since the Unix epoch.
    pub time: Duration,
    /// The proxy's name.
    pub gateway: Option<&'a str>,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The request is about to be released to its upstream.
    Admission,
    /// It was released, and the response had this status; `None` if the request ended without a response.
    Released(Option<u16>),
    /// It was refused for this reason, with this status.
    Refused(Reason, u16),
    /// It ended before a decision, for example because the client disconnected or another filter responded. The
    /// status of the response, if there was one.
    Abandoned(Option<u16>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Decision {
    Allowed,
    Denied,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Admission,
    Request,
    Lost,
}

/// Details beside the fields that every event may have.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Detail<'a> {
    /// The configuration entry that authenticated the caller: `issuers/<name>` and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    authenticated_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    policy_waived: bool,
}

/// An event of the audit log. Texts are truncated to the lengths that the log accepts.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct AuditEvent<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<Detail<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<&'a str>,
    id: Uuid,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    time: String,
}

impl<'a> AuditEvent<'a> {
    fn new(kind: Kind, meta: &EventMeta<'a>) -> Self {
        // RFC 3339 ends with the year 9999, and so do the log's timestamps.
        let time = meta.time.min(Duration::from_secs(253_402_300_799));
        let millis = u64::try_from(time.as_millis()).unwrap_or_default();
        Self {
            decision: None,
            detail: None,
            gateway: meta.gateway.map(|name| truncate(name, MAX_TEXT)),
            // Version 7 begins with the time, so that an index of ids grows at its end.
            id: Builder::from_unix_timestamp_millis(millis, &meta.random).into_uuid(),
            kind,
            latency_us: None,
            method: None,
            path: None,
            policy: None,
            reason: None,
            request_id: None,
            rule: None,
            status: None,
            subject: None,
            tenant: None,
            time: humantime::format_rfc3339_micros(UNIX_EPOCH + time).to_string(),
        }
    }

    /// An event that records the number of lost events.
    #[must_use]
    pub fn lost(count: u64, meta: &EventMeta<'a>) -> Self {
        let detail = Detail {
            count: Some(count),
            ..Detail::default()
        };
        Self {
            detail: Some(detail),
            ..Self::new(Kind::Lost, meta)
        }
    }

    /// Encodes the event as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Serialising texts and numbers cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl RequestOutcome {
    fn decision(self) -> Decision {
        match self {
            Self::Admission | Self::Released(_) => Decision::Allowed,
            Self::Refused(reason, _) if reason.status() != 503 => Decision::Denied,
            Self::Refused(..) | Self::Abandoned(_) => Decision::Failed,
        }
    }

    fn status(self) -> Option<u16> {
        match self {
            Self::Admission => None,
            Self::Released(status) | Self::Abandoned(status) => status,
            Self::Refused(_, status) => Some(status),
        }
    }

    fn reason(self) -> Option<&'static str> {
        match self {
            Self::Admission | Self::Released(_) => None,
            Self::Refused(reason, _) => Some(reason.name()),
            Self::Abandoned(_) => Some("abandoned"),
        }
    }

    /// Whether the rule's policy took part in the decision, or would have.
    fn involves_policy(self) -> bool {
        match self {
            Self::Admission | Self::Released(_) => true,
            Self::Abandoned(_) => false,
            Self::Refused(reason, _) => matches!(
                reason,
                Reason::PolicyDenied
                    | Reason::PolicyFailed
                    | Reason::PolicyUnavailable
                    | Reason::AuditUnavailable
            ),
        }
    }
}

impl Gate {
    /// The event of a request; `None` if it is not recorded. `latency` is the time from the request's arrival to its
    /// end.
    #[must_use]
    pub fn event<'a>(
        &'a self,
        head: Option<&'a RequestHead>,
        context: &'a DecisionContext,
        outcome: RequestOutcome,
        latency: Option<Duration>,
        meta: &EventMeta<'a>,
    ) -> Option<AuditEvent<'a>> {
        self.audit()?;
        let rule = context.rule.and_then(|id| self.rule(id));
        if rule.is_some_and(|rule| rule.audit == AuditMode::Off) {
            return None;
        }
        let kind = if outcome == RequestOutcome::Admission {
            Kind::Admission
        } else {
            Kind::Request
        };
        let caller = context.caller.as_deref();
        let policy = rule
            .filter(|_| outcome.involves_policy())
            .and_then(|rule| rule.policy.as_ref());
        let detail = Detail {
            authenticated_by: caller.map(|caller| caller.entry()),
            count: None,
            policy_waived: context.failed_open,
        };
        let text = |text: &'a str| truncate(text, MAX_TEXT);
        Some(AuditEvent {
            decision: Some(outcome.decision()),
            detail: (detail != Detail::default()).then_some(detail),
            latency_us: latency.map(|latency| u64::try_from(latency.as_micros()).unwrap_or(u64::MAX)),
            method: head.map(RequestHead::method),
            path: head.map(RequestHead::path),
            policy: policy.map(|policy| policy.module.as_str()),
            reason: outcome.reason(),
            request_id: head.and_then(RequestHead::request_id),
            rule: rule.map(|rule| rule.name.as_str()),
            status: outcome.status(),
            subject: caller.map(|caller| text(&caller.subject)),
            tenant: caller.and_then(|caller| caller.tenant.as_deref()).map(text),
            ..AuditEvent::new(kind, meta)
        })
    }
}
