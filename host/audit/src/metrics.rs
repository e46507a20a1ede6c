//! Metrics of the log.

use std::fmt;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::Kind;

/// Buckets in seconds: from one fsync to the deadline of a call.
const SECONDS: [f64; 14] = [
    250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3, 1.0, 2.5, 5.0,
];
/// Buckets of the number of events in one commit.
const EVENTS: [f64; 12] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabel {
    stage: &'static str,
}

/// The metrics of a log. Clones share their values.
#[derive(Clone)]
pub struct Metrics {
    pub(crate) append: Histogram,
    pub(crate) commit: Histogram,
    pub(crate) batch: Histogram,
    events: Family<KindLabel, Counter>,
    pub(crate) lost: Counter,
    pub(crate) backlog: Gauge,
    pub(crate) checkpoint_age: Gauge,
    checkpoint_failures: Family<StageLabel, Counter>,
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
    /// Registers the metrics with the prefix `audit_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("audit");
        registry.register_with_unit(
            "append",
            "Time from a call until its events are durable",
            Unit::Seconds,
            self.append.clone(),
        );
        registry.register_with_unit(
            "commit",
            "Duration of one commit, including its reads and writes",
            Unit::Seconds,
            self.commit.clone(),
        );
        registry.register("batch_events", "Events per commit", self.batch.clone());
        registry.register("events", "Events written, by kind", self.events.clone());
        registry.register(
            "events_lost",
            "Events dropped because the buffer was full and no caller waited for them",
            self.lost.clone(),
        );
        registry.register(
            "backlog_events",
            "Events waiting to be written",
            self.backlog.clone(),
        );
        registry.register_with_unit(
            "checkpoint_age",
            "Time since the last checkpoint, or since the start",
            Unit::Seconds,
            self.checkpoint_age.clone(),
        );
        registry.register(
            "checkpoint_failures",
            "Checkpoints that could not be signed, stored, or written to where they are kept",
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
            "1 if the last commit succeeded",
            self.healthy.clone(),
        );
    }

    pub(crate) fn count_written(&self, kind: Kind, events: u64) {
        self.events
            .get_or_create(&KindLabel { kind: kind.name() })
            .inc_by(events);
    }

    pub(crate) fn count_checkpoint_failure(&self, stage: &'static str) {
        self.checkpoint_failures
            .get_or_create(&StageLabel { stage })
            .inc();
    }
}
