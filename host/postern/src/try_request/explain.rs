//! Explains a decision from the gate's trace.

use postern_gate::Reason;
use postern_gate::config::{AuditMode, Rule};
use serde::Serialize;

use super::attempt::{Attempt, GateDecision};
use super::effect::{self, Effect};
use super::hints::{self, HintContext, requirements};
use super::reasons;
use super::trace::{LimitStatus, TraceEntry};
use crate::load::Loaded;

/// The decision on a request, and how it came about.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    pub(super) decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    /// The exact reason of a denial, which the client does not see.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    pub(super) checks: Vec<Check>,
    pub(super) limits: Vec<LimitStatus>,
    #[serde(flatten)]
    pub(super) effect: Effect,
    pub(super) hints: Vec<String>,
}

/// A check, in the gate's order.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) check: &'static str,
    pub(super) passed: bool,
    pub(super) detail: String,
}

impl Explanation {
    pub(super) fn allowed(&self) -> bool {
        self.reason.is_none()
    }
}

/// Builds explanations.
pub(super) struct Explainer<'a> {
    pub(super) loaded: &'a Loaded,
    /// The issuers and key files of `--jwks`.
    pub(super) jwks: &'a [(String, String)],
}

impl Explainer<'_> {
    pub(super) fn explain(&self, trace: Vec<TraceEntry>, attempt: Attempt) -> Explanation {
        let rule = trace.iter().find_map(|entry| match entry {
            TraceEntry::Matched { rule } => self.loaded.config.rules.get(rule.index()),
            _ => None,
        });
        let policy = trace.contains(&TraceEntry::PolicyConsulted);
        let subject = trace.iter().find_map(|entry| match entry {
            TraceEntry::Authenticated { subject, .. } => Some(subject.clone()),
            _ => None,
        });
        let mut checks: Vec<Check> = trace.iter().filter_map(|entry| self.check(entry, rule)).collect();
        let limits = trace.into_iter().filter_map(|entry| match entry {
            TraceEntry::Limited(limited) => Some(limited),
            _ => None,
        });
        let limits = limits.collect();
        let reason = match &attempt.decision {
            GateDecision::Allowed(_) => None,
            GateDecision::Denied(denial) => Some(denial.reason),
        };
        match reason {
            // The entry of the limit explains it.
            Some(Reason::LimitExceeded | Reason::LimitUnavailable) => {}
            Some(reason) => checks.push(failed(reason)),
            None if rule.is_none() => checks.push(passed("rule", "none matches; default: allow".to_owned())),
            None => {}
        }
        let required = rule.is_some_and(|rule| rule.audit == Some(AuditMode::Required));
        if required && reason.is_none() {
            checks.push(passed(
                "audit",
                "required: released once the audit log has recorded it".to_owned(),
            ));
        }
        let context = HintContext {
            loaded: self.loaded,
            rule,
            wanted_keys: attempt.wanted_keys,
            jwks: self.jwks,
        };
        Explanation {
            decision: match (reason, policy) {
                (Some(_), _) => "denied",
                (None, true) => "allowed, if the policy allows",
                (None, false) => "allowed",
            },
            rule: rule.map(|rule| rule.name.clone()),
            subject,
            reason: reason.map(Reason::name),
            checks,
            limits,
            hints: reason
                .map(|reason| hints::hints(reason, &context))
                .unwrap_or_default(),
            effect: match attempt.decision {
                GateDecision::Allowed(effects) => effect::admitted(effects),
                GateDecision::Denied(denial) => effect::response(&denial, attempt.request_id.as_deref()),
            },
        }
    }

    fn check(&self, entry: &TraceEntry, rule: Option<&Rule>) -> Option<Check> {
        match entry {
            TraceEntry::Matched { rule: id } => {
                let rule = rule?;
                let open = if rule.open { ", open to anyone" } else { "" };
                Some(passed(
                    "rule",
                    format!("{} (rules[{}]){open}", rule.name, id.index()),
                ))
            }
            TraceEntry::Authenticated { by, subject } => {
                Some(passed("authenticated", format!("{subject}, by {by}")))
            }
            TraceEntry::Authorized => Some(passed("authorized", requirements(rule?))),
            TraceEntry::Limited(limited) => Some(Check {
                check: "limit",
                passed: limited.admitted,
                detail: limit(limited),
            }),
            TraceEntry::PolicyConsulted => Some(passed("policy", policy_detail(rule?)?)),
            TraceEntry::Evicted => None,
        }
    }
}

fn passed(check: &'static str, detail: String) -> Check {
    Check {
        check,
        passed: true,
        detail,
    }
}

fn policy_detail(rule: &Rule) -> Option<String> {
    let policy = rule.policy.as_ref()?;
    let mut text = format!("would consult the policy host: module {}", policy.module);
    if let Some(body) = policy.body {
        text.push_str(&format!(", with up to {} bytes of the body", body.0));
    }
    Some(text)
}

fn failed(reason: Reason) -> Check {
    Check {
        check: reasons::check(reason),
        passed: false,
        detail: format!("{}: {}", reason.name(), reasons::description(reason)),
    }
}

fn limit(limit: &LimitStatus) -> String {
    let LimitStatus {
        name,
        quota,
        window_seconds,
        remaining,
        reset_seconds,
        admitted,
    } = limit;
    let state = if *admitted {
        format!("{remaining} left")
    } else {
        format!("used up, the next request is allowed in {reset_seconds}s")
    };
    format!("{name}: {state} ({quota} in {window_seconds}s)")
}
