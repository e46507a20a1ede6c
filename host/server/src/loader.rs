//! Loads policies, and tells what became of it: in the log, the metrics and the readiness.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use postern_audit::{Decision, Kind};
use postern_policy::{Change, LoadError, LoadReport, Policies, Settings};
use serde::Serialize;

use crate::metrics::Metrics;
use crate::recorder::{Recorder, truncate};

/// Loads policies, and tells of it.
#[derive(Debug)]
pub(crate) struct Loader {
    policies: Policies,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    /// Whether a fault of an entry that serves on makes the host unready.
    strict: bool,
    state: RwLock<LoadState>,
}

/// What the last load found. Kept here, so that nobody who asks waits for a load.
#[derive(Debug)]
struct LoadState {
    settings: Settings,
    missing: Vec<String>,
    /// The faults that are in the log already: a file that stays wrong is told once.
    logged_faults: BTreeMap<String, String>,
}

/// Whether the host can answer for all its entries.
#[derive(Debug, Serialize)]
pub(crate) struct Readiness {
    pub(crate) ready: bool,
    /// What is wrong, by entry.
    pub(crate) faults: BTreeMap<String, String>,
}

impl Loader {
    pub(crate) fn new(
        policies: Policies,
        settings: Settings,
        metrics: Arc<Metrics>,
        recorder: Recorder,
    ) -> Self {
        Self {
            policies,
            metrics,
            recorder,
            strict: settings.strict,
            state: RwLock::new(LoadState {
                missing: settings.entries.keys().cloned().collect(),
                settings,
                logged_faults: BTreeMap::new(),
            }),
        }
    }

    pub(crate) fn policies(&self) -> &Policies {
        &self.policies
    }

    fn state<R>(&self, with: impl FnOnce(&mut LoadState) -> R) -> R {
        with(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the settings have an entry of this name.
    pub(crate) fn has_entry(&self, name: &str) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.settings.entries.contains_key(name)
    }

    /// What is loaded from.
    pub(crate) fn settings(&self) -> Settings {
        self.state(|state| state.settings.clone())
    }

    /// Loads what the files hold now.
    pub(crate) async fn load(&self, cause: &'static str) -> LoadReport {
        let report = self.policies.load().await;
        self.report(cause, &report);
        report
    }

    /// Takes other settings and loads from them.
    pub(crate) async fn replace(&self, settings: Settings, cause: &'static str) -> LoadReport {
        self.state(|state| state.settings = settings.clone());
        let report = self.policies.replace(settings).await;
        self.report(cause, &report);
        report
    }

    /// Looks whether the files still hold what is served.
    pub(crate) async fn verify(&self) {
        let found = self.policies.verify().await;
        self.report_faults("tamper check", found.iter());
    }

    fn report(&self, cause: &'static str, report: &LoadReport) {
        let missing = self.policies.missing();
        self.state(|state| state.missing = missing);
        for (policy, result) in &report.entries {
            self.metrics.loaded(match result {
                Ok(Change::Unchanged) => "unchanged",
                Ok(Change::Loaded(_)) => "loaded",
                Ok(Change::Swapped { .. }) => "swapped",
                Ok(Change::Removed) => "removed",
                Err(error) => error.kind,
            });
            match result {
                Ok(Change::Unchanged) => tracing::debug!(policy, why = cause, "unchanged"),
                Ok(Change::Loaded(digest)) => tracing::info!(policy, why = cause, %digest, "loaded"),
                Ok(Change::Swapped { from, to }) => {
                    tracing::info!(policy, why = cause, %from, %to, "swapped")
                }
                Ok(Change::Removed) => tracing::info!(policy, why = cause, "removed"),
                Err(_) => {}
            }
            if let Ok(change) = result {
                self.record(policy, cause, change);
            }
        }
        let failed = report
            .entries
            .iter()
            .filter_map(|(name, result)| Some((name, result.as_ref().err()?)));
        self.report_faults(cause, failed);
    }

    fn record(&self, policy: &str, cause: &'static str, change: &Change) {
        let (what, from, to) = match change {
            Change::Unchanged => return,
            Change::Loaded(digest) => ("loaded", None, Some(digest)),
            Change::Swapped { from, to } => ("swapped", Some(from), Some(to)),
            Change::Removed => ("removed", None, None),
        };
        self.recorder.record(|| {
            let mut event = self.recorder.event(Kind::PolicyLoad, Decision::Allowed);
            event.policy = Some(truncate(policy));
            event.policy_digest = to.map(ToString::to_string);
            event.reason = Some(what.to_owned());
            event.detail.insert("why".to_owned(), cause.into());
            if let Some(from) = from {
                event.detail.insert("from".to_owned(), from.to_string().into());
            }
            event
        });
    }

    /// A fault that is told for the first time.
    fn record_fault(&self, policy: &str, cause: &'static str, error: &LoadError) {
        self.recorder.record(|| {
            let mut event = self.recorder.event(Kind::Tamper, Decision::Denied);
            event.policy = Some(truncate(policy));
            event.reason = Some(error.kind.to_owned());
            event.detail.insert("why".to_owned(), cause.into());
            event
        });
    }

    fn report_faults<'a>(
        &self,
        cause: &'static str,
        found: impl Iterator<Item = (&'a String, &'a LoadError)>,
    ) {
        let found: BTreeMap<_, _> = found.collect();
        self.metrics.faults(&self.policies.faults());
        self.state(|state| {
            for (policy, error) in &found {
                let reason = error.to_string();
                if state.logged_faults.get(*policy) != Some(&reason) {
                    let serves_on = !state.missing.contains(policy);
                    self.record_fault(policy, cause, error);
                    tracing::error!(
                        policy,
                        why = cause,
                        kind = error.kind,
                        serves_on,
                        reason,
                        "not what its files should be"
                    );
                }
            }
            let fixed: BTreeSet<_> = state
                .logged_faults
                .keys()
                .filter(|name| !found.contains_key(name))
                .collect();
            for policy in fixed {
                tracing::info!(policy, why = cause, "in order again");
            }
            state.logged_faults = found
                .into_iter()
                .map(|(name, error)| (name.clone(), error.to_string()))
                .collect();
        });
    }

    /// Whether the host can answer for all its entries. An entry that serves what it had, while its files are wrong,
    /// does not make it unready, unless settings are strict: a bad file that reaches all hosts of a fleet would take
    /// all of them out of service.
    pub(crate) fn readiness(&self) -> Readiness {
        let mut faults = self.policies.faults();
        let missing = self.state(|state| state.missing.clone());
        let ready = missing.is_empty() && (faults.is_empty() || !self.strict);
        for name in missing {
            faults
                .entry(name)
                .or_insert_with(|| "is not loaded yet".to_owned());
        }
        Readiness { ready, faults }
    }
}
