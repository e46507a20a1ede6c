//! Drives the gate's steps as the filter does.

use postern_gate::ports::Ports;
use postern_gate::{Allowance, Answer, Consultation, Denial, Effects, Facts, Gate, Need, Step, Tables};

use super::request::OwnedRequest;

/// The result of running a request through the gate.
pub(super) struct Attempt {
    pub(super) decision: GateDecision,
    /// The index of the issuer whose keys the gate requested.
    pub(super) wanted_keys: Option<usize>,
    /// The request's id, which the body of a denial contains.
    pub(super) request_id: Option<String>,
}

pub(super) enum GateDecision {
    Allowed(Effects),
    Denied(Denial),
}

/// Runs the request through the gate once.
pub(super) fn run(gate: &Gate, tables: &Tables, ports: &Ports<'_>, owned: &OwnedRequest) -> Attempt {
    let headers = owned.headers();
    let request = owned.with(&headers);
    let mut wanted_keys = None;
    let mut step = gate.begin(&request, tables, ports);
    let decision = loop {
        step = match step {
            Step::Continue(effects) => break GateDecision::Allowed(effects),
            Step::Deny(denial) => break GateDecision::Denied(denial),
            // As after a fetch without new keys. Keys are requested once per request.
            Step::Need(Need::Keys { issuer }, pending) => {
                wanted_keys = Some(issuer);
                gate.resume(pending, &request, tables, ports)
            }
            Step::Need(Need::Body { .. }, mut pending) => match pending.body(&owned.body) {
                Ok(()) => gate.resume(pending, &request, tables, ports),
                Err(denial) => Step::Deny(gate.refuse(pending, denial, ports)),
            },
            // As if the audit log had recorded it.
            Step::Need(Need::Audit, pending) => gate.recorded(pending, true, ports),
            // As if the policy had allowed it unchanged. The explanation says that it was not consulted.
            Step::Need(Need::Policy, pending) => {
                let facts = Facts {
                    protocol: None,
                    body: &owned.body,
                };
                match gate.consult(pending, &request, &facts, tables, ports) {
                    Consultation::Settled(step) => step,
                    Consultation::Ask(pending, _) => {
                        let allow = Answer::Allow(Allowance::default());
                        gate.answered(pending, allow, &request, tables, ports)
                    }
                }
            }
        };
    };
    Attempt {
        decision,
        wanted_keys,
        request_id: request.id().map(str::to_owned),
    }
}
