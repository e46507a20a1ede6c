//! Metrics of signing.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::breaker::BreakerState;
use crate::mode::Mode;

/// In seconds. A local HSM signs within a millisecond; the default deadline is two seconds.
const BUCKETS: [f64; 14] = [
    100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0, 2.5,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SignatureLabels {
    signer: String,
    mode: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    code: &'static str,
}

/// Metrics of signing. Clones share the same values.
#[derive(Debug, Clone)]
pub struct Metrics {
    latency: Histogram,
    signatures: Family<SignatureLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    retries: Counter,
    breaker: Gauge,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        Self {
            latency: Histogram::new(BUCKETS),
            signatures: Family::default(),
            failures: Family::default(),
            retries: Counter::default(),
            breaker: Gauge::default(),
        }
    }

    /// Registers the metrics, under names that begin with `signing_`.
    pub fn register(&self, registry: &mut Registry) {
        let help = "Time from a signing request to its result, successful or not, retries included";
        registry.register_with_unit("signing_latency", help, Unit::Seconds, self.latency.clone());
        let help = "Verified signatures, by signer and mode (proxy, development)";
        registry.register("signing_signatures", help, self.signatures.clone());
        let help = "Signing requests that failed, by reason code";
        registry.register("signing_failures", help, self.failures.clone());
        let help = "Retries of requests to the signing proxy";
        registry.register("signing_retries", help, self.retries.clone());
        let help = "State of the signing proxy's circuit breaker: 0 closed, 1 half-open, 2 open";
        registry.register("signing_breaker", help, self.breaker.clone());
    }

    pub(crate) fn signed(&self, signer: &str, mode: Mode, elapsed: Duration) {
        self.latency.observe(elapsed.as_secs_f64());
        let labels = SignatureLabels {
            signer: signer.to_owned(),
            mode: mode.name(),
        };
        self.signatures.get_or_create(&labels).inc();
    }

    pub(crate) fn failed(&self, code: &'static str, elapsed: Duration) {
        self.latency.observe(elapsed.as_secs_f64());
        self.failures.get_or_create(&FailureLabels { code }).inc();
    }

    pub(crate) fn retried(&self) {
        self.retries.inc();
    }

    pub(crate) fn breaker(&self, state: BreakerState) {
        self.breaker.set(match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
    }
}
