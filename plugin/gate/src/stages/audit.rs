//! The last stage: the audit log's admission, where the rule requires one, and the release.

use crate::Reason;
use crate::config::AuditMode;
use crate::evaluation::Evaluation;
use crate::gate::Gate;
use crate::pending::PendingAudit;
use crate::policy::Allowance;
use crate::ports::Ports;
use crate::step::{Need, Step};

impl Evaluation<'_> {
    /// Releases a request that every other stage has passed, or waits until its admission is recorded.
    pub(super) fn audit(self, allowance: Option<Box<Allowance>>) -> Step {
        if self.rule.audit != AuditMode::Required {
            return self.release(allowance);
        }
        Step::Need(Need::Audit(PendingAudit {
            suspended: self.suspend(),
            allowance,
        }))
    }
}

impl Gate {
    /// Continues a request whose admission was to be recorded. It is refused unless the log holds it durably.
    pub fn resume_after_audit(&self, pending: PendingAudit, durable: bool, ports: &Ports<'_>) -> Step {
        let PendingAudit { suspended, allowance } = pending;
        if durable {
            suspended.release(allowance, ports)
        } else {
            Step::Deny(suspended.deny(Reason::AuditUnavailable, ports))
        }
    }
}

#[cfg(test)]
mod tests;
