//! Counters in the proxy's statistics, one for each rule and reason.
//!
//! A request only increments a number in the VM, and each tick passes the increments to the proxy. That saves a host
//! call on every request's path; statistics lag by a tick at most.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use postern_gate::ports::{Observation, Observer};
use postern_gate::{Reason, RuleId};
use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

/// The counters of one configuration. A statistic's name is `postern.rule.<rule>.<reason>`, `admitted` for requests
/// that passed, `-` for requests that no rule matched.
pub(crate) struct Counters {
    rules: Vec<String>,
    /// By rule; the last one is for requests that no rule matched.
    admitted: Vec<Counter>,
    refused: RefCell<HashMap<(Option<RuleId>, Reason), Counter>>,
    /// Everything but decisions.
    named: RefCell<HashMap<String, Counter>>,
    /// A warning was logged since the last tick.
    warned: Cell<bool>,
}

impl Counters {
    pub(crate) fn new(rules: Vec<String>) -> Self {
        let admitted = rules.iter().map(String::as_str).chain(["-"]);
        let admitted = admitted
            .map(|rule| Counter::new(format!("postern.rule.{rule}.admitted")))
            .collect();
        Self {
            rules,
            admitted,
            refused: RefCell::default(),
            named: RefCell::default(),
            warned: Cell::new(false),
        }
    }

    fn rule(&self, rule: Option<RuleId>) -> &str {
        rule.and_then(|id| self.rules.get(id.index()))
            .map_or("-", String::as_str)
    }

    /// Increments the counter of this name.
    pub(crate) fn count(&self, name: &str) {
        self.add(name, 1);
    }

    /// Adds to the counter of this name.
    pub(crate) fn add(&self, name: &str, number: u64) {
        if number == 0 {
            return;
        }
        self.named
            .borrow_mut()
            .entry(name.to_owned())
            .or_insert_with(|| Counter::new(name.to_owned()))
            .add(u32::try_from(number).unwrap_or(u32::MAX));
    }

    fn count_policy(&self, rule: RuleId, what: &str) {
        self.count(&format!("postern.policy.{}.{what}", self.rule(Some(rule))));
    }

    /// Logs a warning, one a tick at most: clients may be able to cause them.
    pub(crate) fn warn(&self, what: impl FnOnce() -> String) {
        if !self.warned.replace(true) {
            log::warn!("postern: {}", what());
        }
    }

    /// Passes to the proxy what was counted since the last call.
    pub(crate) fn flush(&self) {
        self.warned.set(false);
        self.admitted.iter().for_each(Counter::flush);
        self.refused.borrow().values().for_each(Counter::flush);
        self.named.borrow().values().for_each(Counter::flush);
    }
}

impl Observer for Counters {
    fn observe(&self, observation: &Observation<'_>) {
        match observation {
            Observation::Admitted { rule } => {
                if let Some(counter) = self.admitted.get(rule.map_or(self.rules.len(), RuleId::index)) {
                    counter.add(1);
                }
            }
            Observation::Refused { rule, reason } => {
                let name = || format!("postern.rule.{}.{}", self.rule(*rule), reason.name());
                let mut refused = self.refused.borrow_mut();
                refused
                    .entry((*rule, *reason))
                    .or_insert_with(|| Counter::new(name()))
                    .add(1);
            }
            Observation::Evicted => self.count("postern.limits.evicted"),
            Observation::StaleKeys => self.count("postern.keys.stale"),
            Observation::PolicyCalled { rule } => self.count_policy(*rule, "asked"),
            Observation::PolicyCached { rule } => self.count_policy(*rule, "recalled"),
            Observation::PolicyFailedOpen { rule } => self.count_policy(*rule, "waived"),
            Observation::PolicyError { rule, why } => {
                self.warn(|| format!("the policy of rule {}: {why}", self.rule(Some(*rule))));
            }
            Observation::Matched { .. }
            | Observation::Authenticated { .. }
            | Observation::Authorized
            | Observation::Limited { .. } => {}
        }
    }
}

/// One counter. The proxy creates it at the first increment.
struct Counter {
    name: String,
    id: Cell<Option<u32>>,
    pending: Cell<u32>,
}

impl Counter {
    fn new(name: String) -> Self {
        Self {
            name,
            id: Cell::new(None),
            pending: Cell::new(0),
        }
    }

    fn add(&self, number: u32) {
        self.pending.set(self.pending.get().saturating_add(number));
    }

    /// Keeps for the next call what the proxy does not accept.
    fn flush(&self) {
        if self.pending.get() == 0 {
            return;
        }
        let id = self
            .id
            .get()
            .or_else(|| hostcalls::define_metric(MetricType::Counter, &self.name).ok());
        self.id.set(id);
        let Some(id) = id else { return };
        if hostcalls::increment_metric(id, i64::from(self.pending.get())).is_ok() {
            self.pending.set(0);
        }
    }
}

impl Drop for Counters {
    /// Counts since the last tick are not lost with a replaced configuration.
    fn drop(&mut self) {
        self.flush();
    }
}
