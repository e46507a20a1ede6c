//! The fourth stage: whether the caller has a role and the claims that the rule requires.

use std::rc::Rc;

use crate::Reason;
use crate::evaluation::Evaluation;
use crate::identity::{Identity, claim, claim_list, claim_text};
use crate::ports::Observation;
use crate::step::Step;

impl Evaluation<'_> {
    pub(super) fn authorize(mut self, caller: Option<Rc<Identity>>) -> Step {
        self.progress.caller = caller;
        match self.check_roles_and_claims() {
            Ok(()) => self.limit(),
            Err(reason) => self.deny(reason),
        }
    }

    fn check_roles_and_claims(&self) -> Result<(), Reason> {
        let rule = &self.rule;
        if rule.roles.is_empty() && rule.claims.is_empty() {
            return Ok(());
        }
        // Open rules have neither roles nor claims: the compiler rejects them.
        let caller = self.caller().ok_or(Reason::GateFailed)?;
        if !rule.roles.is_empty() && !caller.has_any_role(&rule.roles) {
            return Err(Reason::RoleMissing);
        }
        let holds = |path: &str, wanted: &str| {
            claim(&caller.claims, path).is_some_and(|value| {
                claim_text(value).as_deref() == Some(wanted)
                    || claim_list(value).iter().any(|item| item == wanted)
            })
        };
        if !rule.claims.iter().all(|(path, wanted)| holds(path, wanted)) {
            return Err(Reason::ClaimMismatch);
        }
        self.ports.observer.observe(&Observation::Authorized);
        Ok(())
    }
}
