//! Loads policies and reports the results in the log, the metrics and the readiness.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use postern_audit::{Decision, Kind};
use postern_policy::{Change, LoadError, LoadReport, Policies, Settings};
use serde::Serialize;

use crate::metrics::Metrics;
use crate::recorder::{Recorder, truncate};

/// Loads policies and reports the results.
#[derive(Debug)]
pub(crate) struct Loader {
    policies: Policies,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    /// Whether a fault of an entry that still serves makes the host unready.
    strict: bool,
    state: RwLock<LoadState>,
}

/// The result of the last load. Kept here, so that readers do not wait for a load in progress.
#[derive(Debug)]
struct LoadState {
    settings: Settings,
    missing: Vec<String>,
    /// The faults that are already logged: a file that stays wrong is logged once.
    logged_faults: BTreeMap<String, String>,
}

/// Whether the host can decide for all its entries.
#[derive(Debug, Serialize)]
pub(crate) struct Readiness {
    pub(crate) ready: bool,
    /// Faults by entry.
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

    /// The settings that policies are loaded from.
    pub(crate) fn settings(&self) -> Settings {
        self.state(|state| state.settings.clone())
    }

    /// Loads the current content of the files.
    pub(crate) async fn load(&self, cause: &'static str) -> LoadReport {
        let report = self.policies.load().await;
        self.report(cause, &report);
        report
    }

    /// Replaces the settings and loads from the new ones.
    pub(crate) async fn replace(&self, settings: Settings, cause: &'static str) -> LoadReport {
        self.state(|state| state.settings = settings.clone());
        let report = self.policies.replace(settings).await;
        self.report(cause, &report);
        report
    }

    /// Verifies that the files still match what is served.
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

    /// Records a new fault.
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
                        "the files of this policy are wrong"
                    );
                }
            }
            let fixed: BTreeSet<_> = state
                .logged_faults
                .keys()
                .filter(|name| !found.contains_key(name))
                .collect();
            for policy in fixed {
                tracing::info!(policy, why = cause, "the files of this policy are correct again");
            }
            state.logged_faults = found
                .into_iter()
                .map(|(name, error)| (name.clone(), error.to_string()))
                .collect();
        });
    }

    /// Whether the host can decide for all its entries. An entry that serves its previous module while its files are
    /// wrong does not make the host unready, unless the settings are strict: otherwise a bad file that reaches all
    /// hosts of a fleet would take all of them out of service.
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
