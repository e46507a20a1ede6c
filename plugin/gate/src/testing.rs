//! What the gate's tests share: a gate with its ports in memory, and requests in one line.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::Value;

use crate::ports::memory::{ManualClock, MemoryState};
use crate::ports::{Clock as _, Event, Metrics, Ports, PureRust};
use crate::{
    Answer, Consultation, Denial, Facts, Gate, Header, Identity, Need, Pending, Request, Secret, Step,
    Tables, config,
};

pub(crate) struct Fixture {
    gate: Gate,
    tables: Tables,
    clock: ManualClock,
    state: MemoryState,
    pub(crate) events: Log,
}

/// The names of what happened.
#[derive(Default)]
pub(crate) struct Log(pub(crate) RefCell<Vec<String>>);

impl Metrics for Log {
    fn note(&self, event: &Event<'_>) {
        self.0.borrow_mut().push(format!("{event:?}"));
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
            events: Log::default(),
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
            metrics: &self.events,
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

    pub(crate) fn resume(&self, pending: crate::Pending, path: &str, headers: &[(&str, &str)]) -> Step {
        let headers = head("GET", path, headers);
        self.gate
            .resume(pending, &request(&headers, true), &self.tables, &self.ports())
    }

    /// A GET whose policy, if it is asked, gives this answer. The step, and the question.
    pub(crate) fn ask(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        answer: Answer,
    ) -> (Step, Option<Vec<u8>>) {
        let headers = head("GET", path, headers);
        let request = request(&headers, true);
        let step = self.gate.begin(&request, &self.tables, &self.ports());
        self.consult(step, &request, b"", answer)
    }

    pub(crate) fn consult(
        &self,
        step: Step,
        request: &Request<'_>,
        body: &[u8],
        answer: Answer,
    ) -> (Step, Option<Vec<u8>>) {
        let Step::Need(Need::Policy, pending) = step else {
            return (step, None);
        };
        let facts = Facts { protocol: None, body };
        let ports = self.ports();
        match self.gate.consult(pending, request, &facts, &self.tables, &ports) {
            Consultation::Settled(step) => (step, None),
            Consultation::Ask(pending, question) => {
                let step = self.gate.answered(pending, answer, request, &self.tables, &ports);
                (step, Some(question))
            }
        }
    }

    /// A POST whose policy, if it is asked, gives this answer.
    pub(crate) fn ask_with_body(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        answer: Answer,
    ) -> (Step, Option<Vec<u8>>) {
        let step = self.post(path, headers, body);
        let head = head("POST", path, headers);
        self.consult(step, &request(&head, false), body, answer)
    }

    pub(crate) fn recorded(&self, pending: Pending, durable: bool) -> Step {
        self.gate.recorded(pending, durable, &self.ports())
    }

    /// A mistake of the shell's: a request put to what it does not wait for.
    pub(crate) fn answer(&self, pending: Pending, answer: Answer) -> Step {
        let headers = head("GET", "/", &[]);
        self.gate.answered(
            pending,
            answer,
            &request(&headers, true),
            &self.tables,
            &self.ports(),
        )
    }

    /// A request with a body, passed on in two parts as a proxy would.
    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Step {
        let head = head("POST", path, headers);
        let request = request(&head, false);
        let step = self.gate.begin(&request, &self.tables, &self.ports());
        let Step::Need(Need::Body { .. }, mut pending) = step else {
            return step;
        };
        let (first, second) = body.split_at(body.len() / 2);
        for part in [first, second] {
            if let Err(denial) = pending.body(part) {
                return Step::Deny(self.gate.refuse(pending, denial, &self.ports()));
            }
        }
        self.gate.resume(pending, &request, &self.tables, &self.ports())
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
