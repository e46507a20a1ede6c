//! The settings of the host, `host.yaml`.
//!
//! Parsed in two passes, like a gate's configuration: first against the schema, then the values. Each pass reports all
//! errors.

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

/// The validated settings of a host.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The addresses for gates.
    pub listen: Vec<Address>,
    /// The listener for operators.
    pub admin: Option<Admin>,
    /// Maximum connections of each listener; fewer, if the system allows fewer open files.
    pub connections: usize,
    /// How gates are authenticated on TCP.
    pub gate: Gate,
    /// Signing settings; `None` if the host does not sign.
    pub signing: Option<postern_signing::Settings>,
    /// Audit settings; `None` without an `audit` section.
    pub audit: Option<Audit>,
    /// Licence settings (`LICENSE_*`).
    pub license: Option<crate::license::Settings>,
    /// The policies to serve.
    pub policies: postern_policy::Settings,
    /// The entry for requests that name none.
    pub default: Option<String>,
    /// Where modules are compiled: in this process, unless it names a program.
    pub compiler: Compiler,
    /// The directory of compiled modules.
    pub cache: Option<PathBuf>,
    /// Maximum concurrent decisions of all entries.
    pub concurrency: usize,
    /// Whether changed files are loaded.
    pub watch: bool,
    /// How often the files are compared with what is served (`TAMPER_CHECK`).
    pub tamper_check: Option<Duration>,
    /// Backend of the `keyvalue` capability.
    pub keyvalue: KeyValue,
    /// The `log` section.
    pub log: LogSettings,
}

/// The listener for operators.
#[derive(Debug, Clone)]
pub struct Admin {
    /// A Unix socket, or a loopback address.
    pub listen: Address,
    /// The digest of the required token; always set on TCP.
    pub token: Option<TokenDigest>,
}

/// Backend of the `keyvalue` capability.
#[derive(Debug, Clone)]
pub enum KeyValue {
    /// The memory of this process.
    Memory,
    /// Redis at this URL, which can contain a password.
    Redis(SecretString),
}

impl Settings {
    /// The largest memory limit of all entries.
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
