//! The `--registry` argument, and the reading and replacing of the registry file.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use postern_signers::Registry;

/// How a running host picks up a change.
pub(super) const RELOAD: &str =
    "A host that watches its files loads the change at once, any other on SIGHUP. No restart is needed.";

/// The registry.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// The registry of signers, signers.toml
    #[arg(long, value_name = "FILE", env = "POSTERN_SIGNERS")]
    registry: PathBuf,
}

/// The registry, for commands that may not need one.
#[derive(Debug, clap::Args)]
pub(super) struct Optional {
    /// The registry of signers, signers.toml
    #[arg(long, value_name = "FILE", env = "POSTERN_SIGNERS")]
    registry: Option<PathBuf>,
}

impl Optional {
    /// The file's name and the registry in it.
    pub(super) fn read(&self) -> Result<(String, Registry)> {
        let file = self.registry.clone();
        let file = file.ok_or_else(|| anyhow!("no registry given: pass --registry signers.toml"))?;
        let registry = Registry::read(&file)?;
        Ok((file.display().to_string(), registry))
    }
}

impl Args {
    pub(super) fn name(&self) -> String {
        self.registry.display().to_string()
    }

    pub(super) fn read(&self) -> Result<Registry> {
        Ok(Registry::read(&self.registry)?)
    }

    /// Updates the registry's text, which is empty if the file does not exist.
    pub(super) fn update_or_create<E>(&self, change: impl FnOnce(&str) -> Result<String, E>) -> Result<()>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let text = match std::fs::read_to_string(&self.registry) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => self.readable(read)?,
        };
        self.write(&text, change)
    }

    /// Updates the registry's text.
    pub(super) fn update<E>(&self, change: impl FnOnce(&str) -> Result<String, E>) -> Result<()>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let text = self.readable(std::fs::read_to_string(&self.registry))?;
        self.write(&text, change)
    }

    fn readable(&self, read: std::io::Result<String>) -> Result<String> {
        read.with_context(|| format!("cannot read {}", self.name()))
    }

    fn write<E>(&self, text: &str, change: impl FnOnce(&str) -> Result<String, E>) -> Result<()>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let text = change(text).with_context(|| self.name())?;
        replace(&self.registry, &text).with_context(|| format!("cannot write {}", self.name()))
    }
}

/// Replaces the file by an atomic rename, keeps its mode, and syncs it to disk: a reader sees the old version or the
/// new one. The target of a symbolic link is replaced, not the link.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let file = match file.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => file.to_owned(),
        found => found?,
    };
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut new = tempfile::NamedTempFile::new_in(folder)?;
    new.as_file().set_permissions(permissions(&file)?)?;
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(&file)?;
    std::fs::File::open(folder)?.sync_all()
}

/// The mode of the file, or 0644 for a new one: hosts run as another user, and the file holds no secret.
fn permissions(file: &Path) -> std::io::Result<std::fs::Permissions> {
    match file.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Ok(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        }
        found => Ok(found?.permissions()),
    }
}

/// Converts a timestamp of the command line.
pub(super) fn system_time(since: Duration) -> Result<SystemTime> {
    UNIX_EPOCH
        .checked_add(since)
        .ok_or_else(|| anyhow!("the time must lie between the years 1970 and 9999"))
}

/// Formats a time as in the registry: RFC 3339, with microseconds unless they are zero.
pub(super) fn format_time(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    if since.subsec_micros() == 0 {
        humantime::format_rfc3339_seconds(time).to_string()
    } else {
        humantime::format_rfc3339_micros(time).to_string()
    }
}
