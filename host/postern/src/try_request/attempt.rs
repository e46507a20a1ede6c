//! Carries out the gate's steps, as the filter does.

use postern_gate::ports::Ports;
use postern_gate::{
    Allowance, Consultation, Denial, Effects, Gate, IssuerId, Need, PendingBody, PolicyResponse, Request,
    RequestDetails, Step, Tables,
};

use super::request::OwnedRequest;

/// The result of a request.
pub(super) struct Attempt {
    pub(super) decision: GateDecision,
    /// The issuer whose keys the request needed.
    pub(super) wanted_keys: Option<IssuerId>,
    /// The request's id, which a denial repeats.
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
            // As after a fetch without new keys. A request waits for keys once.
            Step::Need(Need::Keys(pending)) => {
                wanted_keys = Some(pending.issuer());
                gate.resume_with_keys(pending, &request, tables, ports)
            }
            Step::Need(Need::Body(pending)) => send_body(gate, pending, owned, &request, tables, ports),
            // As if the log held the admission.
            Step::Need(Need::Audit(pending)) => gate.resume_after_audit(pending, true, ports),
            // As if the policy allowed the request without changes; the explanation says that it was not called.
            Step::Need(Need::Policy(pending)) => {
                let details = RequestDetails {
                    protocol: None,
                    body: &owned.body,
                };
                match gate.consult(pending, &request, &details, tables, ports) {
                    Consultation::Decided(step) => step,
                    Consultation::Call(pending, _) => {
                        let allow = PolicyResponse::Allow(Allowance::default());
                        gate.resume_with_response(pending, allow, &request, tables, ports)
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

fn send_body(
    gate: &Gate,
    pending: PendingBody,
    owned: &OwnedRequest,
    request: &Request<'_>,
    tables: &Tables,
    ports: &Ports<'_>,
) -> Step {
    match gate.receive_body(pending, &owned.body, ports) {
        Ok(pending) => gate.resume_with_body(pending, request, tables, ports),
        Err(denial) => Step::Deny(denial),
    }
}
