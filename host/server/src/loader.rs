//! Loads policies, and tells what became of it: in the log, the metrics and the readiness.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

use postern_audit::{Decision, Kind};
use postern_policy::{Change, LoadError, LoadReport, Policies, Settings};
use serde::Serialize;

use crate::metrics::Metrics;
use crate::record::{Recorder, cut};

/// Loads policies, and tells of it.
#[derive(Debug)]
pub(crate) struct Loader {
    policies: Policies,
    metrics: Arc<Metrics>,
    recorder: Recorder,
    /// Whether a fault of an entry that serves on makes the host unready.
    strict: bool,
    known: RwLock<Known>,
}

/// What the last load found. Kept here, so that nobody who asks waits for a load.
#[derive(Debug)]
struct Known {
    settings: Settings,
    missing: Vec<String>,
    /// The faults that are in the log already: a file that stays wrong is told once.
    told: BTreeMap<String, String>,
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
            known: RwLock::new(Known {
                missing: settings.entries.keys().cloned().collect(),
                settings,
                told: BTreeMap::new(),
            }),
        }
    }

    pub(crate) fn policies(&self) -> &Policies {
        &self.policies
    }

    fn known<R>(&self, with: impl FnOnce(&mut Known) -> R) -> R {
        with(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the settings have an entry of this name.
    pub(crate) fn knows(&self, name: &str) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.settings.entries.contains_key(name)
    }

    /// What is loaded from.
    pub(crate) fn settings(&self) -> Settings {
        self.known(|known| known.settings.clone())
    }

    /// Loads what the files hold now.
    pub(crate) async fn load(&self, why: &'static str) -> LoadReport {
        let report = self.policies.load().await;
        self.note(why, &report);
        report
    }

    /// Takes other settings and loads from them.
    pub(crate) async fn replace(&self, settings: Settings, why: &'static str) -> LoadReport {
        self.known(|known| known.settings = settings.clone());
        let report = self.policies.replace(settings).await;
        self.note(why, &report);
        report
    }

    /// Looks whether the files still hold what is served.
    pub(crate) async fn verify(&self) {
        let found = self.policies.verify().await;
        self.tell_faults("tamper check", found.iter());
    }

    fn note(&self, why: &'static str, report: &LoadReport) {
        let missing = self.policies.missing();
        self.known(|known| known.missing = missing);
        for (policy, result) in &report.entries {
            self.metrics.loaded(match result {
                Ok(Change::Unchanged) => "unchanged",
                Ok(Change::Loaded(_)) => "loaded",
                Ok(Change::Swapped { .. }) => "swapped",
                Ok(Change::Removed) => "removed",
                Err(error) => error.kind,
            });
            match result {
                Ok(Change::Unchanged) => tracing::debug!(policy, why, "unchanged"),
                Ok(Change::Loaded(digest)) => tracing::info!(policy, why, %digest, "loaded"),
                Ok(Change::Swapped { from, to }) => tracing::info!(policy, why, %from, %to, "swapped"),
                Ok(Change::Removed) => tracing::info!(policy, why, "removed"),
                Err(_) => {}
            }
            if let Ok(change) = result {
                self.record(policy, why, change);
            }
        }
        let failed = report
            .entries
            .iter()
            .filter_map(|(name, result)| Some((name, result.as_ref().err()?)));
        self.tell_faults(why, failed);
    }

    fn record(&self, policy: &str, why: &'static str, change: &Change) {
        let (what, from, to) = match change {
            Change::Unchanged => return,
            Change::Loaded(digest) => ("loaded", None, Some(digest)),
            Change::Swapped { from, to } => ("swapped", Some(from), Some(to)),
            Change::Removed => ("removed", None, None),
        };
        self.recorder.note(|| {
            let mut event = self.recorder.event(Kind::PolicyLoad, Decision::Allowed);
            event.policy = Some(cut(policy));
            event.policy_digest = to.map(ToString::to_string);
            event.reason = Some(what.to_owned());
            event.detail.insert("why".to_owned(), why.into());
            if let Some(from) = from {
                event.detail.insert("from".to_owned(), from.to_string().into());
            }
            event
        });
    }

    /// A fault that is told for the first time.
    fn record_fault(&self, policy: &str, why: &'static str, error: &LoadError) {
        self.recorder.note(|| {
            let mut event = self.recorder.event(Kind::Tamper, Decision::Denied);
            event.policy = Some(cut(policy));
            event.reason = Some(error.kind.to_owned());
            event.detail.insert("why".to_owned(), why.into());
            event
        });
    }

    fn tell_faults<'a>(&self, why: &'static str, found: impl Iterator<Item = (&'a String, &'a LoadError)>) {
        let found: BTreeMap<_, _> = found.collect();
        self.metrics.faults(&self.policies.faults());
        self.known(|known| {
            for (policy, error) in &found {
                let reason = error.to_string();
                if known.told.get(*policy) != Some(&reason) {
                    let serves_on = !known.missing.contains(policy);
                    self.record_fault(policy, why, error);
                    tracing::error!(
                        policy,
                        why,
                        kind = error.kind,
                        serves_on,
                        reason,
                        "not what its files should be"
                    );
                }
            }
            let mended: BTreeSet<_> = known
                .told
                .keys()
                .filter(|name| !found.contains_key(name))
                .collect();
            for policy in mended {
                tracing::info!(policy, why, "in order again");
            }
            known.told = found
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
        let missing = self.known(|known| known.missing.clone());
        let ready = missing.is_empty() && (faults.is_empty() || !self.strict);
        for name in missing {
            faults
                .entry(name)
                .or_insert_with(|| "is not loaded yet".to_owned());
        }
        Readiness { ready, faults }
    }
}
