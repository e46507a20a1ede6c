//! The stages that a request passes, in this order. What is cheap and needs no call comes first.
//!
//! 1. [`route`]: refuses methods, paths, hosts and `Connection` headers that can be read in two ways, and finds the
//!    rule.
//! 2. [`limits`], those by address alone: they need no caller.
//! 3. [`authenticate`]: verifies the credential. May wait for keys, or for the body that a signature covers.
//! 4. [`authorize`]: checks roles and claims.
//! 5. [`limits`], all others.
//! 6. [`policy`]: consults the policy. May wait for the body, and for the policy host.
//! 7. [`audit`]: waits for the audit log where the rule requires it, and releases the request.

mod audit;
mod authenticate;
mod authorize;
mod body;
mod limits;
mod policy;
mod route;

pub use policy::Consultation;

use crate::denial::Denial;
use crate::evaluation::Evaluation;
use crate::gate::{Gate, Tables};
use crate::jwt::KeyWait;
use crate::pending::Progress;
use crate::ports::{Observation, Ports};
use crate::request::Request;
use crate::step::Step;

impl Gate {
    /// Begins the evaluation of a request.
    pub fn begin(&self, request: &Request<'_>, tables: &Tables, ports: &Ports<'_>) -> Step {
        let rule = match self.route(request) {
            Ok(Some(rule)) => rule,
            Ok(None) => return self.unmatched(request, ports),
            Err(reason) => return Step::Deny(Denial::unrouted(reason, ports)),
        };
        ports.observer.observe(&Observation::Matched { rule: rule.id });
        let mut evaluation = Evaluation {
            gate: self,
            rule: rule.clone(),
            request,
            tables,
            ports,
            progress: Progress {
                strip: self.reserved_among(request.headers),
                ..Progress::default()
            },
        };
        match evaluation.charge(&rule.early_limits) {
            Ok(()) => evaluation.authenticate(KeyWait::Allowed),
            Err(denial) => evaluation.deny(denial),
        }
    }
}

#[cfg(test)]
mod tests;
