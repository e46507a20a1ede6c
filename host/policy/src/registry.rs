//! The policies of a host by name: loaded, swapped while they serve, and told about.

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
/// A request takes one policy and keeps it until it is answered: a swap beside it changes nothing for it.
pub struct Policies {
    engines: Engines,
    cache: Option<Cache>,
    services: HostServices,
    serving: ArcSwap<HashMap<String, Arc<ActivePolicy>>>,
    /// What is loaded from.
    settings: ArcSwap<Settings>,
    /// One load at a time. Nobody else waits for it: a load takes as long as files and the compiler take.
    loading: tokio::sync::Mutex<()>,
    serials: Arc<Serials>,
    /// Whether a manifest that is taken is remembered.
    record_serials: bool,
    /// What stands in the way of entries that are not as their files say.
    faults: RwLock<BTreeMap<String, Fault>>,
}

impl std::fmt::Debug for Policies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policies").finish_non_exhaustive()
    }
}

/// A policy that serves.
struct ActivePolicy {
    policy: Policy,
    signers: Vec<String>,
    since: SystemTime,
    /// What it was made from, to tell a change.
    inputs: load::PolicyInputs,
    /// Counted over all modules of the entry.
    stats: Arc<Stats>,
}

/// Why an entry is not as its files say it should be.
#[derive(Debug, Clone)]
struct Fault {
    since: SystemTime,
    reason: String,
}

/// A decision, and who made it.
#[derive(Debug, Clone)]
pub struct PolicyDecision {
    /// The decision.
    pub decision: Decision,
    /// The module that made it.
    pub digest: Digest,
    /// How long it took.
    pub duration: Duration,
    /// Bytes of memory that the instance had in the end.
    pub memory: usize,
}

/// What became of an entry when the policies were loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It serves what it served.
    Unchanged,
    /// It serves, for the first time.
    Loaded(Digest),
    /// It serves another module, or other settings.
    Swapped {
        /// What served before.
        from: Digest,
        /// What serves now.
        to: Digest,
    },
    /// It is no longer among the settings.
    Removed,
}

/// What became of each entry.
#[derive(Debug, Default)]
pub struct LoadReport {
    /// By name. An error says why the entry is not served, or serves on with what it had.
    pub entries: BTreeMap<String, Result<Change, LoadError>>,
}

impl LoadReport {
    /// The entries that could not be loaded, and why.
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
            serving: ArcSwap::default(),
            settings: ArcSwap::from_pointee(settings),
            loading: tokio::sync::Mutex::default(),
            serials: Arc::default(),
            record_serials: true,
            faults: RwLock::default(),
        }
    }

    /// The same, to be tried and not to serve: the serials of manifests are looked at and not remembered.
    #[must_use]
    pub fn without_recording_serials(self) -> Self {
        Self {
            record_serials: false,
            ..self
        }
    }

    /// Loads what the files hold now: verifies, compiles, runs each module's cases, and only then swaps it in. An
    /// entry that fails in any of it keeps what it serves.
    pub async fn load(&self) -> LoadReport {
        let _guard = self.loading.lock().await;
        self.load_from(&self.settings.load_full()).await
    }

    /// Takes other settings and loads from them.
    pub async fn replace(&self, new: Settings) -> LoadReport {
        let _guard = self.loading.lock().await;
        let new = Arc::new(new);
        self.settings.store(Arc::clone(&new));
        self.load_from(&new).await
    }

    async fn load_from(&self, settings: &Settings) -> LoadReport {
        let before = self.serving.load_full();
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
        self.serving.store(Arc::new(table));
        self.record_faults(
            report
                .errors()
                .map(|(name, error)| (name.to_owned(), error.to_string()))
                .collect(),
        );
        report
    }

    /// Looks whether the files still hold what is served, without loading anything: a module or manifest that was
    /// changed behind the host's back is told in the status of its entry, while what was verified serves on.
    pub async fn verify(&self) -> BTreeMap<String, LoadError> {
        let _guard = self.loading.lock().await;
        let settings = self.settings.load_full();
        let serving = self.serving.load_full();
        let mut found = BTreeMap::new();
        let verified = load::verified_manifest(&self.serials, &settings, false).await;
        for (name, entry) in &settings.entries {
            let digest = serving.get(name).map(|serving| serving.policy.digest());
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

    /// Decides on a request by the policy of a name.
    ///
    /// # Errors
    /// Why there is no decision.
    pub async fn decide(&self, name: &str, request: &Request) -> Result<PolicyDecision, Failure> {
        let serving = self.serving.load().get(name).cloned();
        let serving = serving.ok_or_else(|| Failure::NotLoaded(name.to_owned()))?;
        let started = Instant::now();
        let evaluation = serving.policy.decide(request).await;
        let duration = started.elapsed();
        serving.stats.record(&evaluation, duration);
        let evaluation = evaluation?;
        Ok(PolicyDecision {
            decision: evaluation.decision,
            digest: serving.policy.digest(),
            duration,
            memory: evaluation.memory,
        })
    }

    /// What is loaded and how it fares, by name; entries that could not be loaded among them.
    #[must_use]
    pub fn status(&self) -> Vec<PolicyStatus> {
        let names: Vec<_> = self.settings.load().entries.keys().cloned().collect();
        let serving = self.serving.load_full();
        let faults = self.faults.read().unwrap_or_else(PoisonError::into_inner);
        names
            .into_iter()
            .map(|name| PolicyStatus::of(serving.get(&name).map(|s| &**s), faults.get(&name), name))
            .collect()
    }

    /// The entries that do not serve what their files say, and why; none, if all is well.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<String, String> {
        let faults = self.faults.read().unwrap_or_else(PoisonError::into_inner);
        faults
            .iter()
            .map(|(name, fault)| (name.clone(), fault.reason.clone()))
            .collect()
    }

    /// The entries that serve nothing.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let settings = self.settings.load();
        let serving = self.serving.load();
        settings
            .entries
            .keys()
            .filter(|name| !serving.contains_key(*name))
            .cloned()
            .collect()
    }
}
