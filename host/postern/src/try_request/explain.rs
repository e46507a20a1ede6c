//! From what happened to an account of it.

use postern_gate::Reason;
use postern_gate::config::{Rule, AuditMode};
use serde::Serialize;

use super::advice::{self, Case, asked};
use super::effect::{self, Effect};
use super::ports::{Limited, Noted};
use super::reasons;
use super::run::{Decision, Outcome};
use crate::load::Loaded;

/// What happened to a request, and why.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    pub(super) decision: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    /// The exact reason of a refusal, which a client is not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    pub(super) checks: Vec<Check>,
    pub(super) limits: Vec<Limited>,
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

/// What an account is made from.
pub(super) struct Explainer<'a> {
    pub(super) loaded: &'a Loaded,
    /// The issuers whose keys were given.
    pub(super) jwks: &'a [(String, String)],
}

impl Explainer<'_> {
    pub(super) fn explain(&self, noted: Vec<Noted>, outcome: Outcome) -> Explanation {
        let rule = noted.iter().find_map(|noted| match noted {
            Noted::Matched { rule } => self.loaded.config.rules.get(*rule),
            _ => None,
        });
        let policy = noted.contains(&Noted::PolicyAsked);
        let subject = noted.iter().find_map(|noted| match noted {
            Noted::Authenticated { subject, .. } => Some(subject.clone()),
            _ => None,
        });
        let mut checks: Vec<Check> = noted.iter().filter_map(|noted| self.check(noted, rule)).collect();
        let limits = noted.into_iter().filter_map(|noted| match noted {
            Noted::Limited(limited) => Some(limited),
            _ => None,
        });
        let limits = limits.collect();
        let reason = match &outcome.decision {
            Decision::Admitted(_) => None,
            Decision::Refused(denial) => Some(denial.reason),
        };
        match reason {
            // The limit itself has said so already.
            Some(Reason::LimitExceeded | Reason::LimitUnavailable) => {}
            Some(reason) => checks.push(failed(reason)),
            None if rule.is_none() => checks.push(passed("rule", "none matches; default: allow".to_owned())),
            None => {}
        }
        let required = rule.is_some_and(|rule| rule.audit == Some(AuditMode::Required));
        if required && reason.is_none() {
            checks.push(passed(
                "audit",
                "required: released once the audit log holds it".to_owned(),
            ));
        }
        let case = Case {
            loaded: self.loaded,
            rule,
            wanted_keys: outcome.wanted_keys,
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
                .map(|reason| advice::advice(reason, &case))
                .unwrap_or_default(),
            effect: match outcome.decision {
                Decision::Admitted(effects) => effect::admitted(effects),
                Decision::Refused(denial) => effect::response(&denial, outcome.request_id.as_deref()),
            },
        }
    }

    fn check(&self, noted: &Noted, rule: Option<&Rule>) -> Option<Check> {
        match noted {
            Noted::Matched { rule: index } => {
                let rule = rule?;
                let open = if rule.open { ", open to anyone" } else { "" };
                Some(passed("rule", format!("{} (rules[{index}]){open}", rule.name)))
            }
            Noted::Authenticated { by, subject } => {
                Some(passed("authenticated", format!("{subject}, by {by}")))
            }
            Noted::Authorized => Some(passed("authorized", asked(rule?))),
            Noted::Limited(limited) => Some(Check {
                check: "limit",
                passed: limited.admitted,
                detail: limit(limited),
            }),
            Noted::PolicyAsked => Some(passed("policy", would_ask(rule?)?)),
            Noted::Evicted => None,
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

fn would_ask(rule: &Rule) -> Option<String> {
    let policy = rule.policy.as_ref()?;
    let mut text = format!("would ask the policy host: module {}", policy.module);
    if let Some(body) = policy.body {
        text.push_str(&format!(", which is shown the body, {} bytes at most", body.0));
    }
    Some(text)
}

fn failed(reason: Reason) -> Check {
    Check {
        check: reasons::check(reason),
        passed: false,
        detail: format!("{}: {}", reason.name(), reasons::sentence(reason)),
    }
}

fn limit(limited: &Limited) -> String {
    let Limited {
        name,
        quota,
        window_seconds,
        remaining,
        reset_seconds,
        admitted,
    } = limited;
    let state = if *admitted {
        format!("{remaining} left")
    } else {
        format!("used up, the next may come in {reset_seconds}s")
    };
    format!("{name}: {state} ({quota} in {window_seconds}s)")
}
