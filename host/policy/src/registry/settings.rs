//! What policies are loaded from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::manifest::Signers;
use crate::{Digest, Grants, Limits};

/// What policies are loaded from.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where relative paths begin.
    pub directory: PathBuf,
    /// The signed manifest.
    pub manifest: Option<PathBuf>,
    /// The directory in which the serials of manifests are remembered; without one, they are until the process ends.
    pub state: Option<PathBuf>,
    /// Whose signature under the manifest counts.
    pub signers: Signers,
    /// Whether everything must come from a signed manifest (`TAMPER_STRICT`).
    pub strict: bool,
    /// The entries, by the name that rules call them by.
    pub entries: BTreeMap<String, EntrySettings>,
}

/// An entry.
#[derive(Debug, Clone)]
pub struct EntrySettings {
    /// Where the module comes from.
    pub source: Source,
    /// What it may use.
    pub grants: Grants,
    /// Its own configuration, handed to it by the `config` capability.
    pub config: Value,
    /// What it is bounded by.
    pub limits: Limits,
}

/// Where a module comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A module of the manifest, by name.
    Manifest(String),
    /// A file, unsigned.
    File {
        /// The component.
        module: PathBuf,
        /// What its digest must be, if it is pinned.
        digest: Option<Digest>,
        /// Its cases.
        cases: Option<PathBuf>,
    },
}
