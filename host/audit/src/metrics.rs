//! The log's metrics.

use std::fmt;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::Kind;

/// In seconds: a commit is an fsync, and no call waits longer than its deadline.
const SECONDS: [f64; 14] = [
    250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0, 2.5, 5.0,
];
/// Events of one commit.
const EVENTS: [f64; 12] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfKind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AtStage {
    stage: &'static str,
}

/// What is counted and measured. Clones count together.
#[derive(Clone)]
pub struct Metrics {
    pub(crate) append: Histogram,
    pub(crate) commit: Histogram,
    pub(crate) batch: Histogram,
    events: Family<OfKind, Counter>,
    pub(crate) lost: Counter,
    pub(crate) backlog: Gauge,
    pub(crate) checkpoint_age: Gauge,
    checkpoint_failures: Family<AtStage, Counter>,
    pub(crate) clock_steps: Counter,
    pub(crate) failures: Counter,
    pub(crate) healthy: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            append: Histogram::new(SECONDS),
            commit: Histogram::new(SECONDS),
            batch: Histogram::new(EVENTS),
            events: Family::default(),
            lost: Counter::default(),
            backlog: Gauge::default(),
            checkpoint_age: Gauge::default(),
            checkpoint_failures: Family::default(),
            clock_steps: Counter::default(),
            failures: Counter::default(),
            healthy: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Makes them known, each under `audit_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("audit");
        registry.register_with_unit(
            "append",
            "From a call until its events are durable",
            Unit::Seconds,
            self.append.clone(),
        );
        registry.register_with_unit(
            "commit",
            "One commit, with the reading and writing it takes",
            Unit::Seconds,
            self.commit.clone(),
        );
        registry.register("batch_events", "Events of one commit", self.batch.clone());
        registry.register("events", "Events written, by kind", self.events.clone());
        registry.register(
            "events_lost",
            "Events that nobody waited for and that the full buffer had no room for",
            self.lost.clone(),
        );
        registry.register(
            "backlog_events",
            "Events that wait to be written",
            self.backlog.clone(),
        );
        registry.register_with_unit(
            "checkpoint_age",
            "Since the last checkpoint, or the start",
            Unit::Seconds,
            self.checkpoint_age.clone(),
        );
        registry.register(
            "checkpoint_failures",
            "Checkpoints not signed, not stored, or not put where they are kept",
            self.checkpoint_failures.clone(),
        );
        registry.register(
            "clock_steps",
            "How often the clock went back by more than a second",
            self.clock_steps.clone(),
        );
        registry.register("store_failures", "Commits that failed", self.failures.clone());
        registry.register(
            "store_healthy",
            "1 if the last commit did not fail",
            self.healthy.clone(),
        );
    }

    pub(crate) fn written(&self, kind: Kind, events: u64) {
        self.events
            .get_or_create(&OfKind { kind: kind.name() })
            .inc_by(events);
    }

    pub(crate) fn checkpoint_failed(&self, stage: &'static str) {
        self.checkpoint_failures.get_or_create(&AtStage { stage }).inc();
    }
}
