//! Counters in the proxy's statistics, one a rule and reason.
//!
//! A request only adds to a number in the VM; what was added is handed to the proxy on the next tick. That takes a
//! crossing out of every request's path, and statistics lag by a tick at most.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;

use postern_gate::Reason;
use postern_gate::ports::{Event, Metrics};
use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

/// The counters of one configuration. A statistic's name is `postern.rule.<rule>.<reason>`, `admitted` for requests
/// that passed, `-` for requests that no rule matched.
pub(crate) struct Counters {
    rules: Vec<String>,
    /// By rule; the last one is for requests that no rule matched.
    admitted: Vec<Counter>,
    refused: RefCell<HashMap<(Option<usize>, Reason), Counter>>,
    /// What happens beside the decisions.
    named: RefCell<HashMap<String, Counter>>,
    /// Trouble with the policy host was logged since the last tick.
    complained: Cell<bool>,
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
            complained: Cell::new(false),
        }
    }

    fn rule(&self, rule: Option<usize>) -> &str {
        rule.and_then(|index| self.rules.get(index))
            .map_or("-", String::as_str)
    }

    /// Counts under a name of its own, for what happens outside a request.
    pub(crate) fn count(&self, name: &str) {
        self.add(name, 1);
    }

    /// Counts several under a name of its own.
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

    fn count_policy(&self, rule: usize, what: &str) {
        self.count(&format!("postern.policy.{}.{what}", self.rule(Some(rule))));
    }

    /// Logs what is wrong, once a tick at most: a client may be able to cause it.
    pub(crate) fn complain(&self, what: impl FnOnce() -> String) {
        if !self.complained.replace(true) {
            log::warn!("postern: {}", what());
        }
    }

    /// Hands to the proxy what was counted since the last time.
    pub(crate) fn flush(&self) {
        self.complained.set(false);
        self.admitted.iter().for_each(Counter::flush);
        self.refused.borrow().values().for_each(Counter::flush);
        self.named.borrow().values().for_each(Counter::flush);
    }
}

impl Metrics for Counters {
    fn note(&self, event: &Event<'_>) {
        match event {
            Event::Admitted { rule } => {
                if let Some(counter) = self.admitted.get(rule.unwrap_or(self.rules.len())) {
                    counter.add(1);
                }
            }
            Event::Refused { rule, reason } => {
                let name = || format!("postern.rule.{}.{}", self.rule(*rule), reason.name());
                let mut refused = self.refused.borrow_mut();
                refused
                    .entry((*rule, *reason))
                    .or_insert_with(|| Counter::new(name()))
                    .add(1);
            }
            Event::Evicted => self.count("postern.limits.evicted"),
            Event::StaleKeys => self.count("postern.keys.stale"),
            Event::PolicyAsked { rule } => self.count_policy(*rule, "asked"),
            Event::PolicyRecalled { rule } => self.count_policy(*rule, "recalled"),
            Event::PolicyWaived { rule } => self.count_policy(*rule, "waived"),
            Event::PolicyTrouble { rule, why } => {
                self.complain(|| format!("the policy of rule {}: {why}", self.rule(Some(*rule))));
            }
            Event::Matched { .. }
            | Event::Authenticated { .. }
            | Event::Authorized
            | Event::Limited { .. } => {}
        }
    }
}

/// One counter, made in the proxy when it first counts.
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

    /// What the proxy does not take is kept for the next time.
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
    /// A configuration that is replaced keeps its last counts.
    fn drop(&mut self) {
        self.flush();
    }
}
