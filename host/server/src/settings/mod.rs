//! The host's settings, `host.yaml`.
//!
//! Read in two steps, as a gate's configuration: its shape first, then its sense. Each step reports all that is wrong.

mod address;
mod audit;
mod difference;
mod entries;
mod env;
mod gate;
mod license;
mod schema;
mod signing;
mod validate;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_config::{ConfigErrors, yaml};
use postern_policy::{Compiler, Digest};

pub use address::Address;
pub use audit::Audit;
pub use gate::{Gate, Tls};
pub use schema::{Format, Level};

/// What an empty file lacks.
const NEEDS: &str = "\"listen\", and something to do: \"policies\", \"signing\" or \"audit\"";

/// The largest file of settings, or one that they name, in bytes.
const LARGEST: u64 = 16 << 20;

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
    pub log: Log,
}

/// Where operators reach the host.
#[derive(Debug, Clone)]
pub struct Admin {
    /// A Unix socket, or an address of this machine alone.
    pub listen: Address,
    /// The digest of the token that must be shown; always there on TCP.
    pub token: Option<Digest>,
}

/// Where the `keyvalue` capability keeps its values.
#[derive(Clone)]
pub enum KeyValue {
    /// In this process.
    Memory,
    /// In Redis. The URL can hold a password and is not shown.
    Redis(String),
}

impl fmt::Debug for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "Memory",
            Self::Redis(_) => "Redis(..)",
        })
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// For machines or for people.
    pub format: Format,
    /// The least that is logged.
    pub level: Level,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// What is wrong with it.
    #[error(transparent)]
    Invalid(#[from] ConfigErrors),
}

impl Settings {
    /// Reads the settings in a file. Secrets are looked up with `variable`.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn read(path: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let path = std::path::absolute(path)?;
        let text = postern_files::read_to_string(&path, LARGEST)?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        Ok(Self::parse(&text, directory, variable)?)
    }

    /// Reads settings. Relative paths begin at `directory`.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn parse(
        text: &str,
        directory: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigErrors> {
        validate::settings(yaml::from_str(text, NEEDS)?, directory, variable)
    }

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
