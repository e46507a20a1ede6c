//! The host's settings, `host.yaml`.
//!
//! Read in two steps, as a gate's configuration: its shape first, then its sense. Each step reports all that is wrong.

mod audit;
mod difference;
mod entries;
mod gate;
mod license;
mod parse;
mod schema;
mod signing;
mod validate;

use std::path::PathBuf;
use std::time::Duration;

use postern_policy::Compiler;
use postern_serve::log::LogSettings;
use postern_serve::{Address, TokenDigest};
use secrecy::SecretString;

pub use audit::Audit;
pub use gate::Gate;

/// The settings of a host, complete and sound.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where gates reach it.
    pub listen: Vec<Address>,
    /// Where operators reach it, if they do.
    pub admin: Option<Admin>,
    /// Connections that each listener may have at once; fewer, where the system allows fewer open files.
    pub connections: usize,
    /// How gates are known on TCP.
    pub gate: Gate,
    /// How things are signed, if they are.
    pub signing: Option<postern_signing::Settings>,
    /// Where the audit log is kept, if there is one.
    pub audit: Option<Audit>,
    /// What there is to verify the licence with (`LICENSE_*`).
    pub license: Option<crate::license::Settings>,
    /// What is served.
    pub policies: postern_policy::Settings,
    /// The entry that decides where a request names none.
    pub default: Option<String>,
    /// Where modules are compiled: in this process, unless a program is named here.
    pub compiler: Compiler,
    /// Where compiled modules are kept.
    pub cache: Option<PathBuf>,
    /// Decisions at the same time, of all entries.
    pub concurrency: usize,
    /// Whether changed files are loaded.
    pub watch: bool,
    /// How often the files are compared with what is served (`TAMPER_CHECK`).
    pub tamper_check: Option<Duration>,
    /// Where the `keyvalue` capability keeps its values.
    pub keyvalue: KeyValue,
    /// What is logged, and how.
    pub log: LogSettings,
}

/// Where operators reach the host.
#[derive(Debug, Clone)]
pub struct Admin {
    /// A Unix socket, or an address of this machine alone.
    pub listen: Address,
    /// The digest of the token that must be shown; always there on TCP.
    pub token: Option<TokenDigest>,
}

/// Where the `keyvalue` capability keeps its values.
#[derive(Debug, Clone)]
pub enum KeyValue {
    /// In this process.
    Memory,
    /// In Redis, at this URL, which can hold a password.
    Redis(SecretString),
}

impl Settings {
    /// The largest memory that an instance may have.
    pub(crate) fn memory(&self) -> usize {
        self.policies
            .entries
            .values()
            .map(|entry| entry.limits.memory)
            .max()
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
