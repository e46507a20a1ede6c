//! The policies of a host by name: loading, swapping and status.

mod load;
mod serials;
mod settings;
mod status;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;

use crate::bindings::Request;
use crate::policy::HostServices;
use crate::{Cache, Decision, Digest, Engines, Failure, Policy};

pub use load::LoadError;
use serials::Serials;
pub use settings::{EntrySettings, Settings, Source};
pub use status::PolicyStatus;
use status::Stats;

/// The policies of a host.
///
/// A request uses the policy that is active when it starts. A later swap does not affect it.
pub struct Policies {
    engines: Engines,
    cache: Option<Cache>,
    services: HostServices,
    active: ArcSwap<HashMap<String, Arc<ActivePolicy>>>,
    /// The settings of the last load.
    settings: ArcSwap<Settings>,
    /// Serialises loads. Decisions never take it: a load waits for files and the compiler.
    loading: tokio::sync::Mutex<()>,
    serials: Arc<Serials>,
    /// Whether loading records the serials of accepted manifests.
    record_serials: bool,
    /// Errors of entries whose active policy does not match their files.
    faults: RwLock<BTreeMap<String, Fault>>,
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies").finish_non_exhaustive()
    }
}

/// A policy that evaluates requests.
struct ActivePolicy {
    policy: Policy,
    signers: Vec<String>,
    since: SystemTime,
    /// What it was built from, to detect changes.
    inputs: load::PolicyInputs,
    /// Shared by all policies of the entry, so that counts survive a swap.
    stats: Arc<Stats>,
}

/// The reason an entry's active policy does not match its files.
#[derive(Debug, Clone)]
struct Fault {
    since: SystemTime,
    reason: String,
}

/// A decision with its origin and cost.
#[derive(Debug, Clone)]
pub struct PolicyDecision {
    /// The validated decision.
    pub decision: Decision,
    /// Digest of the module that made it.
    pub digest: Digest,
    /// Time taken, including queueing.
    pub duration: Duration,
    /// Memory of the instance when it finished, in bytes.
    pub memory: usize,
}

/// The effect of a load on an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Nothing changed.
    Unchanged,
    /// The entry's first policy was loaded.
    Loaded(Digest),
    /// The policy was replaced, because its module or settings changed.
    Swapped {
        /// Digest of the previous module.
        from: Digest,
        /// Digest of the new module.
        to: Digest,
    },
    /// The entry is no longer in the settings.
    Removed,
}

/// The result of a load.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// By entry name. On an error the entry keeps its previous policy, if it had one.
    pub entries: BTreeMap<String, Result<Change, LoadError>>,
}

impl LoadReport {
    /// The entries that failed to load, with their errors.
    pub fn errors(&self) -> impl Iterator<Item = (&str, &LoadError)> {
        self.entries
            .iter()
            .filter_map(|(name, result)| Some((name.as_str(), result.as_ref().err()?)))
    }
}

impl Policies {
    /// No policies yet: [`Policies::load`] brings them.
    #[must_use]
    pub fn new(engines: Engines, cache: Option<Cache>, services: HostServices, settings: Settings) -> Self {
        Self {
            engines,
            cache,
            services,
            active: ArcSwap::default(),
            settings: ArcSwap::from_pointee(settings),
            loading: tokio::sync::Mutex::default(),
            serials: Arc::default(),
            record_serials: true,
            faults: RwLock::default(),
        }
    }

    /// Makes loads check the serials of manifests without recording them, for inspection.
    #[must_use]
    pub fn without_recording_serials(self) -> Self {
        Self {
            record_serials: false,
            ..self
        }
    }

    /// Loads the current files: verifies and compiles each module and runs its cases before swapping it in. An entry that
    /// fails in any step keeps its active policy.
    pub async fn load(&self) -> LoadReport {
        let _guard = self.loading.lock().await;
        self.load_from(&self.settings.load_full()).await
    }

    /// Replaces the settings and loads from them.
    pub async fn replace(&self, new: Settings) -> LoadReport {
        let _guard = self.loading.lock().await;
        let new = Arc::new(new);
        self.settings.store(Arc::clone(&new));
        self.load_from(&new).await
    }

    async fn load_from(&self, settings: &Settings) -> LoadReport {
        let before = self.active.load_full();
        let mut report = LoadReport::default();
        let mut table = HashMap::new();
        let verified = load::verified_manifest(&self.serials, settings, self.record_serials).await;
        for (name, entry) in &settings.entries {
            let old = before.get(name);
            let loaded = match &verified {
                Ok(verified) => load::load_entry(self, settings, verified, name, entry, old).await,
                Err(error) => Err(error.clone()),
            };
            let result = match loaded {
                Ok(None) => {
                    table.extend(old.map(|old| (name.clone(), Arc::clone(old))));
                    Ok(Change::Unchanged)
                }
                Ok(Some(new)) => {
                    let to = new.policy.digest();
                    table.insert(name.clone(), Arc::new(new));
                    Ok(match old {
                        Some(old) => Change::Swapped {
                            from: old.policy.digest(),
                            to,
                        },
                        None => Change::Loaded(to),
                    })
                }
                Err(error) => {
                    table.extend(old.map(|old| (name.clone(), Arc::clone(old))));
                    Err(error)
                }
            };
            report.entries.insert(name.clone(), result);
        }
        for name in before.keys().filter(|name| !settings.entries.contains_key(*name)) {
            report.entries.insert(name.clone(), Ok(Change::Removed));
        }
        self.active.store(Arc::new(table));
        self.record_faults(
            report
                .errors()
                .map(|(name, error)| (name.to_owned(), error.to_string()))
                .collect(),
        );
        report
    }

    /// Checks that the files still match the active policies, without loading anything. A changed module or manifest
    /// becomes a fault in the status of its entry, while the verified policy stays active.
    pub async fn verify(&self) -> BTreeMap<String, LoadError> {
        let _guard = self.loading.lock().await;
        let settings = self.settings.load_full();
        let active = self.active.load_full();
        let mut found = BTreeMap::new();
        let verified = load::verified_manifest(&self.serials, &settings, false).await;
        for (name, entry) in &settings.entries {
            let digest = active.get(name).map(|active| active.policy.digest());
            let result = match &verified {
                Ok(verified) => load::check_unchanged(&settings, verified, name, entry, digest).await,
                Err(error) => Err(error.clone()),
            };
            if let Err(error) = result {
                found.insert(name.clone(), error);
            }
        }
        self.record_faults(
            found
                .iter()
                .map(|(name, error)| (name.clone(), error.to_string()))
                .collect(),
        );
        found
    }

    fn record_faults(&self, found: BTreeMap<String, String>) {
        let mut faults = self.faults.write().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        *faults = found
            .into_iter()
            .map(|(name, reason)| {
                let since = faults
                    .get(&name)
                    .filter(|old| old.reason == reason)
                    .map_or(now, |old| old.since);
                (name, Fault { since, reason })
            })
            .collect();
    }

    /// Evaluates a request with the policy of this name.
    ///
    /// # Errors
    /// The [`Failure`], if there is no decision.
    pub async fn decide(&self, name: &str, request: &Request) -> Result<PolicyDecision, Failure> {
        let active = self.active.load().get(name).cloned();
        let active = active.ok_or_else(|| Failure::NotLoaded(name.to_owned()))?;
        let started = Instant::now();
        let evaluation = active.policy.decide(request).await;
        let duration = started.elapsed();
        active.stats.record(&evaluation, duration);
        let evaluation = evaluation?;
        Ok(PolicyDecision {
            decision: evaluation.decision,
            digest: active.policy.digest(),
            duration,
            memory: evaluation.memory,
        })
    }

    /// Status and statistics of every entry, by name, including entries that could not be loaded.
    #[must_use]
    pub fn status(&self) -> Vec<PolicyStatus> {
        let names: Vec<_> = self.settings.load().entries.keys().cloned().collect();
        let active = self.active.load_full();
        let faults = self.faults.read().unwrap_or_else(PoisonError::into_inner);
        names
            .into_iter()
            .map(|name| PolicyStatus::of(active.get(&name).map(|s| &**s), faults.get(&name), name))
            .collect()
    }

    /// Entries whose active policy does not match their files, with the reason; empty if there are none.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<String, String> {
        let faults = self.faults.read().unwrap_or_else(PoisonError::into_inner);
        faults
            .iter()
            .map(|(name, fault)| (name.clone(), fault.reason.clone()))
            .collect()
    }

    /// Entries without an active policy.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let settings = self.settings.load();
        let active = self.active.load();
        settings
            .entries
            .keys()
            .filter(|name| !active.contains_key(*name))
            .cloned()
            .collect()
    }
}
