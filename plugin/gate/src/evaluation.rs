//! One request's evaluation: what the stages read and settle, and the two ways in which it ends.

use std::rc::Rc;

use crate::denial::Denial;
use crate::gate::{Gate, Tables};
use crate::identity::Identity;
use crate::pending::{Progress, Suspended};
use crate::policy::Allowance;
use crate::ports::{Observation, Ports};
use crate::request::Request;
use crate::rule::Rule;
use crate::step::{Effects, Step};

/// A request under its rule. Each stage takes it and passes it to the next, or ends it with a [`Step`].
pub(crate) struct Evaluation<'a> {
    pub(crate) gate: &'a Gate,
    pub(crate) rule: Rc<Rule>,
    pub(crate) request: &'a Request<'a>,
    pub(crate) tables: &'a Tables,
    pub(crate) ports: &'a Ports<'a>,
    pub(crate) progress: Progress,
}

impl<'a> Evaluation<'a> {
    /// Takes up a request that waited.
    pub(crate) fn resume(
        suspended: Suspended,
        gate: &'a Gate,
        request: &'a Request<'a>,
        tables: &'a Tables,
        ports: &'a Ports<'a>,
    ) -> Self {
        let Suspended { rule, progress } = suspended;
        Self {
            gate,
            rule,
            request,
            tables,
            ports,
            progress,
        }
    }

    pub(crate) fn suspend(self) -> Suspended {
        Suspended {
            rule: self.rule,
            progress: self.progress,
        }
    }

    pub(crate) fn caller(&self) -> Option<&Identity> {
        self.progress.caller.as_deref()
    }

    /// Ends with a denial.
    pub(crate) fn deny(self, denial: impl Into<Denial>) -> Step {
        let ports = self.ports;
        Step::Deny(self.suspend().deny(denial, ports))
    }

    /// Ends with the request's release.
    pub(crate) fn release(self, allowance: Option<Box<Allowance>>) -> Step {
        let ports = self.ports;
        self.suspend().release(allowance, ports)
    }
}

impl Suspended {
    /// Completes a denial with what was settled before it, and reports it.
    pub(crate) fn deny(self, denial: impl Into<Denial>, ports: &Ports<'_>) -> Denial {
        let context = self.context();
        let Self { rule, mut progress } = self;
        let mut denial = denial.into();
        ports.observer.observe(&Observation::Refused {
            rule: Some(rule.id),
            reason: denial.reason,
        });
        denial.rule = Some(rule.name.clone());
        let policy = progress.take_rate_limit_policy();
        let state = rate_limit(progress.rate_limit);
        denial.context = context;
        denial
            .headers
            .extend(policy.map(|policy| ("ratelimit-policy", policy.into())));
        denial
            .headers
            .extend(state.map(|(name, state)| (name, state.into())));
        denial.with_retry_after()
    }

    /// Releases the request to its upstream.
    pub(crate) fn release(self, allowance: Option<Box<Allowance>>, ports: &Ports<'_>) -> Step {
        let context = self.context();
        let Self { rule, progress } = self;
        ports
            .observer
            .observe(&Observation::Admitted { rule: Some(rule.id) });
        Step::Continue(Effects {
            strip: progress.strip,
            identity: progress.caller,
            response: rate_limit(progress.rate_limit).into_iter().collect(),
            policy: allowance,
            context,
        })
    }
}

impl Progress {
    /// The value of `RateLimit-Policy`: that of the limit that refused, or of all that were charged.
    fn take_rate_limit_policy(&mut self) -> Option<String> {
        if let Some(policy) = self.rate_limit_policy.take() {
            return Some(policy);
        }
        let policies: Vec<_> = self
            .charges
            .iter()
            .map(|charge| charge.limit().policy())
            .collect();
        (!policies.is_empty()).then(|| policies.join(", "))
    }
}

/// `RateLimit` goes with every response. `RateLimit-Policy` goes with denials alone: it never changes, the draft
/// leaves its frequency to the server, and a second header on each response costs 2 % of the proxy's time.
fn rate_limit(state: String) -> Option<(&'static str, String)> {
    (!state.is_empty()).then_some(("ratelimit", state))
}
