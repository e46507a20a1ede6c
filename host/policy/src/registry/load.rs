//! Loads an entry's policy from files: verify, compile, link and run its cases.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::value::RawValue;

use crate::capability::keyvalue::MemoryStore;
use crate::cases::{self, Cases};
use crate::entry::Entry;
use crate::grants::Capability;
use crate::manifest::{ListedModule, Manifest};
use crate::{Digest, Module, Policy};

use super::serials::{ManifestSerial, Serials};
use super::{ActivePolicy, EntrySettings, Policies, Settings, Source, Stats};

/// Maximum size of a module, manifest or cases file, in bytes.
const MAX_FILE: u64 = 64 << 20;
/// Time limit for reading one of them.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// An entry failed to load.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("{place}: {reason}")]
pub struct LoadError {
    /// A stable code for metrics and audit events: `read`, `manifest`, `serial`, `unlisted`, `unsigned`, `digest`,
    /// `grants`, `module`, `link`, `cases`.
    pub kind: &'static str,
    /// Path of the file, or name of the entry.
    pub place: String,
    /// What is wrong, and the fix where there is one.
    pub reason: String,
}

impl LoadError {
    fn new(kind: &'static str, place: impl std::fmt::Display, reason: impl std::fmt::Display) -> Self {
        Self {
            kind,
            place: place.to_string(),
            reason: reason.to_string(),
        }
    }

    fn at(kind: &'static str, path: &Path, reason: impl std::fmt::Display) -> Self {
        Self::new(kind, path.display(), reason)
    }
}

/// A manifest signed by a trusted signer.
pub(super) struct VerifiedManifest {
    manifest: Manifest,
    signers: Vec<String>,
    directory: PathBuf,
}

/// Reads and verifies the manifest; `None` if the settings name none. With `record_serial`, its serial is recorded.
pub(super) async fn verified_manifest(
    serials: &Arc<Serials>,
    settings: &Settings,
    record_serial: bool,
) -> Result<Option<VerifiedManifest>, LoadError> {
    let Some(path) = &settings.manifest else {
        return Ok(None);
    };
    let path = settings.directory.join(path);
    let error = |error: crate::ManifestError| LoadError::at("manifest", &path, error);
    let manifest = Manifest::parse(&read(&path).await?).map_err(error)?;
    let signers = manifest.verify(&settings.signers).map_err(error)?;
    manifest.check_expiry(SystemTime::now()).map_err(error)?;
    let new = ManifestSerial {
        serial: manifest.serial,
        digest: manifest.digest().map_err(error)?,
    };
    let (serials, state, of) = (Arc::clone(serials), settings.state.clone(), path.clone());
    let directory = state.clone().unwrap_or_default();
    postern_files::with_deadline(&directory, READ_TIMEOUT, move || {
        serials.accept(state.as_deref(), &of, new, record_serial)
    })
    .await
    .map_err(|timeout| LoadError::at("serial", &path, timeout))?
    .map_err(|error| LoadError::at("serial", &path, error))?;
    Ok(Some(VerifiedManifest {
        manifest,
        signers,
        directory: path.parent().unwrap_or(&settings.directory).to_owned(),
    }))
}

/// What a policy is built from. An entry is rebuilt only if this changes.
#[derive(Clone, PartialEq)]
pub(super) struct PolicyInputs {
    digest: Digest,
    cases: Option<Digest>,
    config: serde_json::Value,
    grants: crate::Grants,
    limits: crate::Limits,
    signers: Vec<String>,
}

/// The files of an entry.
struct Sources<'a> {
    module: PathBuf,
    digest: Option<Digest>,
    cases: Option<(PathBuf, Option<Digest>)>,
    signers: &'a [String],
}

fn sources<'a>(
    settings: &Settings,
    verified: Option<&'a VerifiedManifest>,
    name: &str,
    entry: &EntrySettings,
) -> Result<Sources<'a>, LoadError> {
    match &entry.source {
        Source::Manifest(listed) => {
            let Some(verified) = verified else {
                return Err(LoadError::new(
                    "unlisted",
                    name,
                    format!("names the module `{listed}` of a manifest, but the settings have no manifest"),
                ));
            };
            let Some(found) = verified.manifest.modules.get(listed) else {
                return Err(LoadError::new(
                    "unlisted",
                    name,
                    format!("the manifest does not list a module `{listed}`"),
                ));
            };
            check_grants(found, name, entry)?;
            Ok(Sources {
                module: verified.directory.join(&found.file),
                digest: Some(found.digest),
                cases: found
                    .cases
                    .as_ref()
                    .map(|cases| (verified.directory.join(&cases.file), Some(cases.digest))),
                signers: &verified.signers,
            })
        }
        Source::File { .. } if settings.strict => Err(LoadError::new(
            "unsigned",
            name,
            "TAMPER_STRICT requires modules from a signed manifest: use `module` instead of `file`",
        )),
        Source::File {
            module,
            digest,
            cases,
        } => Ok(Sources {
            module: settings.directory.join(module),
            digest: *digest,
            cases: cases.as_ref().map(|cases| (settings.directory.join(cases), None)),
            signers: &[],
        }),
    }
}

/// Checks that the settings grant no more than the signed manifest allows.
fn check_grants(listed: &ListedModule, name: &str, entry: &EntrySettings) -> Result<(), LoadError> {
    let excess: Vec<_> = entry
        .grants
        .capabilities
        .difference(&listed.grants)
        .map(|capability: &Capability| format!("`{}`", capability.name()))
        .collect();
    if excess.is_empty() {
        Ok(())
    } else {
        let excess = excess.join(", ");
        Err(LoadError::new(
            "grants",
            name,
            format!("the settings grant {excess}, which the manifest does not allow"),
        ))
    }
}

/// Checks that an entry's files still match the active policy.
pub(super) async fn check_unchanged(
    settings: &Settings,
    verified: &Option<VerifiedManifest>,
    name: &str,
    entry: &EntrySettings,
    active: Option<Digest>,
) -> Result<(), LoadError> {
    let sources = sources(settings, verified.as_ref(), name, entry)?;
    let found = Digest::of(&read_pinned(&sources.module, sources.digest).await?);
    if let Some((path, digest)) = &sources.cases {
        read_pinned(path, *digest).await?;
    }
    match active {
        Some(active) if active == found => Ok(()),
        Some(active) => Err(LoadError::at(
            "digest",
            &sources.module,
            format!("has the digest {found}, but the active module has {active}"),
        )),
        None => Err(LoadError::new("read", name, "no policy is loaded")),
    }
}

/// Builds the policy of an entry from its files. `None` if nothing changed.
pub(super) async fn load_entry(
    policies: &Policies,
    settings: &Settings,
    verified: &Option<VerifiedManifest>,
    name: &str,
    entry: &EntrySettings,
    old: Option<&Arc<ActivePolicy>>,
) -> Result<Option<ActivePolicy>, LoadError> {
    let sources = sources(settings, verified.as_ref(), name, entry)?;
    let wasm = read_pinned(&sources.module, sources.digest).await?;
    let cases = match &sources.cases {
        Some((path, digest)) => Some((path, read_pinned(path, *digest).await?)),
        None => None,
    };
    let inputs = PolicyInputs {
        digest: Digest::of(&wasm),
        cases: cases.as_ref().map(|(_, text)| Digest::of(text)),
        config: entry.config.clone(),
        grants: entry.grants.clone(),
        limits: entry.limits,
        signers: sources.signers.to_vec(),
    };
    if old.is_some_and(|old| old.inputs == inputs) {
        return Ok(None);
    }

    let module = {
        let (engines, cache) = (policies.engines.clone(), policies.cache.clone());
        // Compilation is slow and must not block a thread that serves requests.
        tokio::task::spawn_blocking(move || Module::compile(&engines, cache.as_ref(), &wasm))
            .await
            .map_err(|_| LoadError::at("module", &sources.module, "the compiler thread panicked"))?
            .map_err(|error| LoadError::at("module", &sources.module, error))?
    };
    let new_entry = Arc::new(Entry {
        name: name.to_owned(),
        grants: entry.grants.clone(),
        config: RawValue::from_string(entry.config.to_string())
            .map_err(|error| LoadError::new("module", name, error))?,
        limits: entry.limits,
        store: policies.services.store.clone(),
        memory_store: old.map_or_else(Arc::<MemoryStore>::default, |old| {
            Arc::clone(old.policy.memory_store())
        }),
        client: policies.services.client.clone(),
        signer: policies.services.signer.clone(),
    });
    let link = |error: crate::LinkError| LoadError::new("link", name, error);
    let policy = Policy::link(&policies.engines, new_entry, module).map_err(link)?;
    if let Some((path, text)) = cases {
        run_cases(policies, &policy, entry, path, &text).await?;
    }
    Ok(Some(ActivePolicy {
        policy,
        signers: sources.signers.to_vec(),
        since: SystemTime::now(),
        inputs,
        stats: old.map_or_else(Arc::<Stats>::default, |old| Arc::clone(&old.stats)),
    }))
}

async fn run_cases(
    policies: &Policies,
    policy: &Policy,
    entry: &EntrySettings,
    path: &Path,
    text: &[u8],
) -> Result<(), LoadError> {
    let error = |reason: String| LoadError::at("cases", path, reason);
    let text = std::str::from_utf8(text).map_err(|_| error("the file is not UTF-8".into()))?;
    let cases = Cases::parse(text).map_err(|reason| error(reason.to_string()))?;
    let (engines, services) = (&policies.engines, &policies.services);
    let reports = cases::run(
        engines,
        policy.module(),
        &entry.grants,
        entry.limits,
        services,
        &cases,
    )
    .await
    .map_err(|reason| error(reason.to_string()))?;
    let failed: Vec<_> = reports
        .iter()
        .filter(|report| !report.passed())
        .map(|report| {
            let differences: Vec<_> = report.differences.iter().map(ToString::to_string).collect();
            format!("`{}` ({})", report.name, differences.join("; "))
        })
        .collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(error(format!(
            "{} of {} cases fail: {}",
            failed.len(),
            reports.len(),
            failed.join(", ")
        )))
    }
}

/// Reads a file and checks its digest, if one is given.
async fn read_pinned(path: &Path, digest: Option<Digest>) -> Result<Vec<u8>, LoadError> {
    let bytes = read(path).await?;
    let found = Digest::of(&bytes);
    match digest {
        Some(expected) if expected != found => Err(LoadError::at(
            "digest",
            path,
            format!("has the digest {found}; it should be {expected}"),
        )),
        _ => Ok(bytes),
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    postern_files::read_with_deadline(path, MAX_FILE, READ_TIMEOUT)
        .await
        .map_err(|reason| LoadError::at("read", path, reason))
}
