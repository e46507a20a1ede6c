//! The audit log: what a rule that requires it waits for.

use super::Gate;
use super::ending::release;
use crate::Reason;
use crate::audit::{Audit, Told};
use crate::denial::Denial;
use crate::policy::Allowance;
use crate::ports::Ports;
use crate::rule::Rule;
use crate::step::{Need, Pending, Progress, Step, Waiting};

impl Gate {
    /// The same gate, of which the audit log is told.
    pub(crate) fn telling(mut self, audit: Option<Audit>) -> Self {
        self.audit = audit;
        self
    }

    /// How the audit log is told, if it is told anything.
    #[must_use]
    pub fn audit(&self) -> Option<&Audit> {
        self.audit.as_ref()
    }

    pub(crate) fn rule(&self, index: usize) -> Option<&Rule> {
        self.rules.get(index)
    }

    /// Lets a request pass that nothing speaks against any more, or has it recorded before.
    pub(super) fn pass(
        &self,
        index: usize,
        progress: Progress,
        policy: Option<Box<Allowance>>,
        ports: &Ports<'_>,
    ) -> Step {
        if self.rule(index).is_none_or(|rule| rule.told != Told::Before) {
            return release(index, progress, policy, ports);
        }
        let pending = Pending {
            rule: index,
            progress,
            waiting: Waiting::Audit { policy },
        };
        Step::Need(Need::Audit, pending)
    }

    /// Goes on with a request that [needs](Need::Audit) the audit log: `durable` says whether the log holds it. If not,
    /// it is refused.
    pub fn recorded(&self, pending: Pending, durable: bool, ports: &Ports<'_>) -> Step {
        let Pending {
            rule: index,
            progress,
            waiting,
        } = pending;
        let rule = self.rule(index).map(|rule| (index, rule));
        match waiting {
            Waiting::Audit { policy } if durable => release(index, progress, policy, ports),
            Waiting::Audit { .. } => self.deny(rule, Denial::new(Reason::AuditUnavailable), progress, ports),
            // A mistake of the shell's.
            _ => self.deny(rule, Denial::new(Reason::GateFailed), progress, ports),
        }
    }
}

#[cfg(test)]
mod tests;
