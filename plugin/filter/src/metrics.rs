//! Counters in the proxy's statistics, one a rule and reason, made when first needed.

use std::cell::RefCell;
use std::collections::HashMap;

use postern_gate::Reason;
use postern_gate::ports::{Event, Metrics};
use proxy_wasm::hostcalls;
use proxy_wasm::types::MetricType;

/// The counters of one configuration. A statistic's name is `postern.rule.<rule>.<reason>`, `admitted` for requests
/// that passed, `-` for requests that no rule matched.
pub(crate) struct Counters {
    rules: Vec<String>,
    admitted: RefCell<HashMap<Option<usize>, u32>>,
    refused: RefCell<HashMap<(Option<usize>, Reason), u32>>,
    named: RefCell<HashMap<String, u32>>,
}

impl Counters {
    pub(crate) fn new(rules: Vec<String>) -> Self {
        Self { rules, admitted: RefCell::default(), refused: RefCell::default(), named: RefCell::default() }
    }

    fn rule(&self, rule: Option<usize>) -> &str {
        rule.and_then(|index| self.rules.get(index)).map_or("-", String::as_str)
    }

    /// Counts under a name of its own, for what happens outside a request.
    pub(crate) fn count(&self, name: &str) {
        let mut named = self.named.borrow_mut();
        let id = match named.get(name) {
            Some(id) => *id,
            None => {
                let Ok(id) = hostcalls::define_metric(MetricType::Counter, name) else { return };
                named.insert(name.to_owned(), id);
                id
            }
        };
        let _ = hostcalls::increment_metric(id, 1);
    }
}

impl Metrics for Counters {
    fn note(&self, event: &Event<'_>) {
        match event {
            Event::Admitted { rule } => {
                let name = || format!("postern.rule.{}.admitted", self.rule(*rule));
                increment(&mut self.admitted.borrow_mut(), *rule, name);
            }
            Event::Refused { rule, reason } => {
                let name = || format!("postern.rule.{}.{}", self.rule(*rule), reason.name());
                increment(&mut self.refused.borrow_mut(), (*rule, *reason), name);
            }
            Event::Evicted => self.count("postern.limits.evicted"),
            Event::StaleKeys => self.count("postern.keys.stale"),
            Event::Matched { .. } | Event::Authenticated { .. } | Event::Authorized | Event::Limited { .. } => {}
        }
    }
}

fn increment<K: std::hash::Hash + Eq>(ids: &mut HashMap<K, u32>, key: K, name: impl FnOnce() -> String) {
    let id = match ids.get(&key) {
        Some(id) => *id,
        None => {
            let Ok(id) = hostcalls::define_metric(MetricType::Counter, &name()) else { return };
            ids.insert(key, id);
            id
        }
    };
    let _ = hostcalls::increment_metric(id, 1);
}
