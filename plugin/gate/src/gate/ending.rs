//! The end of a request's way through the gate: it passes, or is refused.

use super::Gate;
use super::count::rate_limit_state;
use crate::Reason;
use crate::audit::DecisionContext;
use crate::denial::Denial;
use crate::policy::Allowance;
use crate::ports::{Event, Ports};
use crate::rule::Rule;
use crate::step::{Effects, Progress, Step};

/// A refusal on its way out: the reason, or a whole denial where headers go with it.
pub(super) struct Refusal(pub(super) Denial);

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self(Denial::new(reason))
    }
}

impl Gate {
    pub(super) fn deny(
        &self,
        rule: Option<(usize, &Rule)>,
        denial: Denial,
        progress: Progress,
        ports: &Ports<'_>,
    ) -> Step {
        Step::Deny(self.refusal(rule, denial, progress, ports))
    }

    /// Completes a refusal with what was settled before it, and notes it.
    pub(super) fn refusal(
        &self,
        rule: Option<(usize, &Rule)>,
        mut denial: Denial,
        mut progress: Progress,
        ports: &Ports<'_>,
    ) -> Denial {
        ports.metrics.note(&Event::Refused {
            rule: rule.map(|(index, _)| index),
            reason: denial.reason,
        });
        denial.rule = rule.map(|(_, rule)| rule.name.clone());
        let policy = self.rate_limit_policy(&mut progress);
        denial.context = DecisionContext {
            rule: rule.map(|(index, _)| index),
            caller: progress.caller,
            failed_open: progress.failed_open,
        };
        denial
            .headers
            .extend(policy.map(|policy| ("ratelimit-policy", policy.into())));
        denial
            .headers
            .extend(rate_limit_state(progress.state).map(|(name, state)| (name, state.into())));
        if denial.status() == 503 && denial.reply.is_none() {
            denial.headers.push(("retry-after", "1".into()));
        }
        denial
    }
}

/// The end of a request's way through the gate.
pub(super) fn release(
    index: usize,
    progress: Progress,
    policy: Option<Box<Allowance>>,
    ports: &Ports<'_>,
) -> Step {
    ports.metrics.note(&Event::Admitted { rule: Some(index) });
    Step::Continue(Effects {
        strip: progress.strip,
        identity: progress.caller.clone(),
        response: rate_limit_state(progress.state).into_iter().collect(),
        policy,
        context: DecisionContext {
            rule: Some(index),
            caller: progress.caller,
            failed_open: progress.failed_open,
        },
    })
}
