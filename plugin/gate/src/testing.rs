//! Test support: a gate with its ports in memory, and requests in one line.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::Value;

use crate::ports::memory::{ManualClock, MemoryState};
use crate::ports::{Clock as _, Observation, Observer, Ports, PureRust};
use crate::{
    Consultation, Denial, Gate, Header, Identity, Need, PendingAudit, PendingBody, PendingKeys,
    PolicyResponse, Request, RequestDetails, Secret, Step, Tables, config,
};

pub(crate) struct Fixture {
    gate: Gate,
    tables: Tables,
    clock: ManualClock,
    state: MemoryState,
    pub(crate) observations: ObservationLog,
}

/// The observations, as text.
#[derive(Default)]
pub(crate) struct ObservationLog(pub(crate) RefCell<Vec<String>>);

impl Observer for ObservationLog {
    fn observe(&self, observation: &Observation<'_>) {
        self.0.borrow_mut().push(format!("{observation:?}"));
    }
}

impl Fixture {
    pub(crate) fn new(config: &Value) -> Self {
        Self::with_secrets(config, &[])
    }

    pub(crate) fn with_secrets(config: &Value, secrets: &[(&str, &str)]) -> Self {
        let config = config::from_value(config.clone()).unwrap();
        let secret = |name: &str| {
            secrets
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| Secret::new(*value))
        };
        let gate = Gate::compile(&config, &secret).unwrap();
        let state = MemoryState::default();
        let tables = gate.open_tables(&state, [7; 16]);
        let clock = ManualClock::at(Duration::from_secs(1_767_225_600));
        Self {
            gate,
            tables,
            clock,
            state,
            observations: ObservationLog::default(),
        }
    }

    pub(crate) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(crate) fn state(&self) -> &MemoryState {
        &self.state
    }

    pub(crate) fn wall(&self) -> Duration {
        self.clock.wall()
    }

    pub(crate) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    fn ports(&self) -> Ports<'_> {
        Ports {
            clock: &self.clock,
            state: &self.state,
            verifier: &PureRust,
            observer: &self.observations,
        }
    }

    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Step {
        self.begin("GET", path, headers, true)
    }

    pub(crate) fn begin(&self, method: &str, path: &str, headers: &[(&str, &str)], end: bool) -> Step {
        let headers = head(method, path, headers);
        self.gate
            .begin(&request(&headers, end), &self.tables, &self.ports())
    }

    /// A request with exactly these headers.
    pub(crate) fn begin_with(&self, headers: &[Header<'_>]) -> Step {
        self.gate
            .begin(&request(headers, true), &self.tables, &self.ports())
    }

    pub(crate) fn resume_with_keys(
        &self,
        pending: PendingKeys,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Step {
        let headers = head("GET", path, headers);
        let request = request(&headers, true);
        self.gate
            .resume_with_keys(pending, &request, &self.tables, &self.ports())
    }

    /// Continues a POST whose body arrives in one part.
    pub(crate) fn resume_with_body(
        &self,
        pending: PendingBody,
        body: &[u8],
        path: &str,
        headers: &[(&str, &str)],
    ) -> Step {
        let headers = head("POST", path, headers);
        let request = request(&headers, false);
        match self.gate.receive_body(pending, body, &self.ports()) {
            Ok(pending) => self
                .gate
                .resume_with_body(pending, &request, &self.tables, &self.ports()),
            Err(denial) => Step::Deny(denial),
        }
    }

    /// A GET, and the response of its policy if it is called. The step, and the message to the policy host.
    pub(crate) fn get_with_policy(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        response: PolicyResponse,
    ) -> (Step, Option<Vec<u8>>) {
        let headers = head("GET", path, headers);
        let request = request(&headers, true);
        let step = self.gate.begin(&request, &self.tables, &self.ports());
        self.consult(step, &request, b"", response)
    }

    pub(crate) fn consult(
        &self,
        step: Step,
        request: &Request<'_>,
        body: &[u8],
        response: PolicyResponse,
    ) -> (Step, Option<Vec<u8>>) {
        let Step::Need(Need::Policy(pending)) = step else {
            return (step, None);
        };
        let details = RequestDetails { protocol: None, body };
        let ports = self.ports();
        match self
            .gate
            .consult(pending, request, &details, &self.tables, &ports)
        {
            Consultation::Decided(step) => (step, None),
            Consultation::Call(pending, message) => {
                let step = self
                    .gate
                    .resume_with_response(pending, response, request, &self.tables, &ports);
                (step, Some(message))
            }
        }
    }

    /// A POST, and the response of its policy if it is called.
    pub(crate) fn post_with_policy(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        response: PolicyResponse,
    ) -> (Step, Option<Vec<u8>>) {
        let step = self.post(path, headers, body);
        let head = head("POST", path, headers);
        self.consult(step, &request(&head, false), body, response)
    }

    pub(crate) fn resume_after_audit(&self, pending: PendingAudit, durable: bool) -> Step {
        self.gate.resume_after_audit(pending, durable, &self.ports())
    }

    /// A POST whose body arrives in two parts.
    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Step {
        let head = head("POST", path, headers);
        let request = request(&head, false);
        let step = self.gate.begin(&request, &self.tables, &self.ports());
        let Step::Need(Need::Body(mut pending)) = step else {
            return step;
        };
        let (first, second) = body.split_at(body.len() / 2);
        for part in [first, second] {
            pending = match self.gate.receive_body(pending, part, &self.ports()) {
                Ok(pending) => pending,
                Err(denial) => return Step::Deny(denial),
            };
        }
        self.gate
            .resume_with_body(pending, &request, &self.tables, &self.ports())
    }
}

pub(crate) fn head<'a>(method: &'a str, path: &'a str, headers: &'a [(&'a str, &'a str)]) -> Vec<Header<'a>> {
    let pseudo = [
        (":method", method),
        (":path", path),
        (":authority", "api.example.com:8443"),
    ];
    let all = pseudo.into_iter().chain(headers.iter().copied());
    all.map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect()
}

pub(crate) fn request<'a>(headers: &'a [Header<'a>], end_of_stream: bool) -> Request<'a> {
    Request {
        headers,
        source: Some("198.51.100.7:4711"),
        end_of_stream,
    }
}

pub(crate) fn admitted(step: &Step) -> &Identity {
    match step {
        Step::Continue(effects) => effects.identity.as_deref().expect("an identity"),
        other => panic!("not admitted: {other:?}"),
    }
}

pub(crate) fn refused(step: &Step) -> &Denial {
    match step {
        Step::Deny(denial) => denial,
        other => panic!("not refused: {other:?}"),
    }
}
