//! The metrics of the host, in the OpenMetrics text format.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// In seconds: a policy decides in microseconds, and its deadline is in milliseconds.
const BUCKETS: [f64; 16] = [
    10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3,
    500e-3, 1.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PolicyLabels {
    policy: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    policy: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoadLabels {
    result: &'static str,
}

pub(crate) struct Metrics {
    registry: RwLock<Registry>,
    decisions: Family<OutcomeLabels, Counter>,
    durations: Family<PolicyLabels, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    loads: Family<LoadLabels, Counter>,
    faults: Family<PolicyLabels, Gauge>,
    license_valid: Gauge,
    license_expiry: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// A check in progress; counted until dropped, however it ends.
#[derive(Debug)]
pub(crate) struct InFlightCheck(Gauge);

impl Drop for InFlightCheck {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("postern");
        let decisions = Family::<OutcomeLabels, Counter>::default();
        let durations: Family<PolicyLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(BUCKETS));
        let in_flight = Gauge::default();
        let loads = Family::<LoadLabels, Counter>::default();
        let faults = Family::<PolicyLabels, Gauge>::default();
        let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "This program", build);
        let help = "Checks by policy and result: allowed, denied, or why there is no decision";
        registry.register("policy_decisions", help, decisions.clone());
        let help = "Time from a check to its decision, including the wait for an instance";
        registry.register_with_unit("policy_duration", help, Unit::Seconds, durations.clone());
        registry.register("checks_in_flight", "Checks in progress", in_flight.clone());
        let help = "Loads of entries by result: unchanged, loaded, swapped, removed, or the kind of failure";
        registry.register("policy_loads", help, loads.clone());
        let help = "1 for each entry that does not serve what its files hold";
        registry.register("policy_fault", help, faults.clone());
        let (license_valid, license_expiry) = (Gauge::default(), Gauge::default());
        let help = "1 if the licence is valid, or none is required";
        registry.register("license_valid", help, license_valid.clone());
        let help = "The expiry of the licence, in seconds since 1970; 0 without one";
        registry.register("license_expiry_timestamp", help, license_expiry.clone());
        Self {
            registry: RwLock::new(registry),
            decisions,
            durations,
            in_flight,
            loads,
            faults,
            license_valid,
            license_expiry,
        }
    }

    /// Registers metrics of other crates.
    pub(crate) fn register(&self, others: impl FnOnce(&mut Registry)) {
        others(&mut self.registry.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts a check until the result is dropped.
    pub(crate) fn check_started(&self) -> InFlightCheck {
        self.in_flight.inc();
        InFlightCheck(self.in_flight.clone())
    }

    /// Records the result and the duration of a check.
    pub(crate) fn decided(&self, policy: &str, result: &'static str, took: Duration) {
        let policy = policy.to_owned();
        self.durations
            .get_or_create(&PolicyLabels {
                policy: policy.clone(),
            })
            .observe(took.as_secs_f64());
        self.decisions
            .get_or_create(&OutcomeLabels { policy, result })
            .inc();
    }

    /// Records the result of loading an entry.
    pub(crate) fn loaded(&self, result: &'static str) {
        self.loads.get_or_create(&LoadLabels { result }).inc();
    }

    /// Sets which entries do not serve what their files hold.
    pub(crate) fn faults(&self, faults: &BTreeMap<String, String>) {
        self.faults.clear();
        for policy in faults.keys() {
            self.faults
                .get_or_create(&PolicyLabels {
                    policy: policy.clone(),
                })
                .set(1);
        }
    }

    /// Sets the expiry of the licence, and whether it is valid now.
    pub(crate) fn license(&self, license: Option<(Option<u64>, bool)>) {
        let (until, holds) = license.unwrap_or((None, true));
        self.license_valid.set(holds.into());
        self.license_expiry.set(
            until
                .and_then(|until| i64::try_from(until).ok())
                .unwrap_or_default(),
        );
    }

    /// Encodes all metrics.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        let _ = text::encode(&mut text, &registry);
        text
    }
}
