//! A configured gate with its environment: what every request of one worker is evaluated with.

use postern_gate::ports::Ports;
use postern_gate::{Gate, PolicyHost, Tables};

use crate::counters::Counters;
use crate::ports::{ProxyClock, SharedData};
use crate::verifier::ProxyVerifier;

pub(crate) struct Engine {
    pub(crate) gate: Gate,
    pub(crate) tables: Tables,
    pub(crate) counters: Counters,
    /// The gate reads [`Request::source`](postern_gate::Request::source).
    pub(crate) needs_source: bool,
    verifier: ProxyVerifier,
}

impl Engine {
    pub(crate) fn new(gate: Gate, tables: Tables, verifier: ProxyVerifier) -> Self {
        Self {
            counters: Counters::new(gate.rule_names().map(str::to_owned).collect()),
            needs_source: gate.needs_source(),
            gate,
            tables,
            verifier,
        }
    }

    pub(crate) fn ports(&self) -> Ports<'_> {
        Ports {
            clock: &ProxyClock,
            state: &SharedData,
            verifier: &self.verifier,
            observer: &self.counters,
        }
    }

    pub(crate) fn policy_host(&self) -> Option<&PolicyHost> {
        self.gate.policy_host()
    }
}
