//! Settings of the policies.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::manifest::Signers;
use crate::{Digest, Grants, Limits};

/// Settings of the policies of a host.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Base directory of relative paths.
    pub directory: PathBuf,
    /// Path of the signed manifest.
    pub manifest: Option<PathBuf>,
    /// Directory of the file that records manifest serials. `None`: serials are kept until the process exits.
    pub state: Option<PathBuf>,
    /// Trusted signers of the manifest.
    pub signers: Signers,
    /// Whether every module must come from a signed manifest (`TAMPER_STRICT`).
    pub strict: bool,
    /// The entries, by the name that gate rules refer to.
    pub entries: BTreeMap<String, EntrySettings>,
}

/// Settings of an entry.
#[derive(Debug, Clone)]
pub struct EntrySettings {
    /// Where the module comes from.
    pub source: Source,
    /// Capabilities granted to it.
    pub grants: Grants,
    /// The policy's configuration, which it reads through the `config` capability.
    pub config: Value,
    /// Resource limits.
    pub limits: Limits,
}

/// Where a module comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The manifest, under this module name.
    Manifest(String),
    /// An unsigned file.
    File {
        /// Path of the component.
        module: PathBuf,
        /// The required digest, if pinned.
        digest: Option<Digest>,
        /// Path of its cases file.
        cases: Option<PathBuf>,
    },
}
