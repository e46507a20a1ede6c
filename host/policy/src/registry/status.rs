//! Status and statistics of policies.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::module::ModuleKind;
use crate::policy::Evaluation;
use crate::{Decision, Digest, Failure};

use super::{ActivePolicy, Fault};

/// Decision counts of an entry since the host started, across swaps.
#[derive(Default)]
pub(super) struct Stats {
    counts: Mutex<Counters>,
}

#[derive(Default)]
struct Counters {
    allowed: u64,
    denied: u64,
    failed: BTreeMap<&'static str, u64>,
    stopped: u64,
    /// In microseconds, because most decisions take less than a millisecond.
    latency: Option<Histogram<u64>>,
    last_failure: Option<(SystemTime, String)>,
}

impl Stats {
    pub(super) fn record(&self, result: &Result<Evaluation, Failure>, latency: Duration) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(evaluation) => match evaluation.decision {
                Decision::Allow(_) => counts.allowed += 1,
                Decision::Deny(_) => counts.denied += 1,
            },
            Err(failure) => {
                *counts.failed.entry(failure.code()).or_default() += 1;
                counts.stopped += u64::from(failure.was_stopped());
                counts.last_failure = Some((SystemTime::now(), failure.to_string()));
            }
        }
        if counts.latency.is_none() {
            // Two significant digits from one microsecond to one minute take 20 KiB.
            counts.latency = Histogram::new_with_bounds(1, 60_000_000, 2).ok();
        }
        if let Some(histogram) = &mut counts.latency {
            histogram.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1));
        }
    }
}

/// The status of an entry, as operators see it.
#[derive(Debug, Clone, Serialize)]
pub struct PolicyStatus {
    /// Name of the entry.
    pub name: String,
    /// Digest of the active module; `None` if no module could be loaded.
    pub digest: Option<Digest>,
    /// The module's interface: `authorizer` or `http`.
    pub kind: Option<&'static str>,
    /// Size of the component, in bytes.
    pub size: Option<usize>,
    /// Trusted signers of the manifest that lists it; empty for an unsigned module.
    pub signers: Vec<String>,
    /// Time at which it was loaded, in RFC 3339.
    pub since: Option<String>,
    /// All evaluations, including failures.
    pub calls: u64,
    /// Allowed requests.
    pub allowed: u64,
    /// Denied requests.
    pub denied: u64,
    /// Failures by code.
    pub failed: BTreeMap<&'static str, u64>,
    /// Failures in which the host stopped the module: deadline, memory, log or trap.
    pub traps: u64,
    /// Median decision time, in microseconds.
    pub p50_us: Option<u64>,
    /// 99th percentile of the decision time, in microseconds.
    pub p99_us: Option<u64>,
    /// The last failure.
    pub last_failure: Option<TimedReason>,
    /// The reason the active policy does not match its files, if it does not.
    pub fault: Option<TimedReason>,
}

/// An error with its time.
#[derive(Debug, Clone, Serialize)]
pub struct TimedReason {
    /// Time in RFC 3339.
    pub at: String,
    /// The error text.
    pub reason: String,
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

impl PolicyStatus {
    pub(super) fn of(active: Option<&ActivePolicy>, fault: Option<&Fault>, name: String) -> Self {
        let mut status = Self {
            name,
            digest: None,
            kind: None,
            size: None,
            signers: Vec::new(),
            since: None,
            calls: 0,
            allowed: 0,
            denied: 0,
            failed: BTreeMap::new(),
            traps: 0,
            p50_us: None,
            p99_us: None,
            last_failure: None,
            fault: fault.map(|fault| TimedReason {
                at: rfc3339(fault.since),
                reason: fault.reason.clone(),
            }),
        };
        if let Some(active) = active {
            let module = active.policy.module();
            status.digest = Some(module.digest());
            status.kind = Some(match module.kind() {
                ModuleKind::Authorizer => "authorizer",
                ModuleKind::Http => "http",
            });
            status.size = Some(module.size());
            status.signers.clone_from(&active.signers);
            status.since = Some(rfc3339(active.since));
            status.count(&active.stats);
        }
        status
    }

    fn count(&mut self, stats: &Stats) {
        let counts = stats.counts.lock().unwrap_or_else(PoisonError::into_inner);
        self.allowed = counts.allowed;
        self.denied = counts.denied;
        self.failed.clone_from(&counts.failed);
        self.traps = counts.stopped;
        self.calls = self.allowed + self.denied + self.failed.values().sum::<u64>();
        if let Some(histogram) = &counts.latency {
            self.p50_us = Some(histogram.value_at_quantile(0.5));
            self.p99_us = Some(histogram.value_at_quantile(0.99));
        }
        self.last_failure = counts.last_failure.as_ref().map(|(at, reason)| TimedReason {
            at: rfc3339(*at),
            reason: reason.clone(),
        });
    }
}
