//! The registry's file: where it is, how it is read, and how it is replaced.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow};
use postern_signers::Registry;

/// What a running host makes of a change.
pub(super) const RELOAD: &str =
    "A host that watches its files takes it at once; another, when it gets SIGHUP. Neither is restarted.";

/// Which registry.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// The registry of signers, signers.toml
    #[arg(long, value_name = "FILE", env = "POSTERN_SIGNERS")]
    registry: PathBuf,
}

/// Which registry, where a command can do without one.
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
        let file =
            file.ok_or_else(|| anyhow!("say which registry has the signer: --registry signers.toml"))?;
        let registry = Registry::read(&file)?;
        Ok((file.display().to_string(), registry))
    }
}

impl Args {
    pub(super) fn name(&self) -> String {
        self.registry.display().to_string()
    }

    /// The registry.
    pub(super) fn read(&self) -> Result<Registry> {
        Ok(Registry::read(&self.registry)?)
    }

    /// Changes the registry's text; where there is no file, that of an empty one.
    pub(super) fn change_or_make<E>(&self, change: impl FnOnce(&str) -> Result<String, E>) -> Result<()>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let text = match std::fs::read_to_string(&self.registry) {
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            read => self.readable(read)?,
        };
        self.write(&text, change)
    }

    /// Changes the registry's text.
    pub(super) fn change<E>(&self, change: impl FnOnce(&str) -> Result<String, E>) -> Result<()>
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

/// Puts a new file in the old one's place, with its mode, and on disk before this returns: whoever reads it sees the old
/// one or the new one. Through a symbolic link, what it points to is replaced.
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

/// The file's; where there is none, everybody may read: hosts run as another user, and it holds no secret.
fn permissions(file: &Path) -> std::io::Result<std::fs::Permissions> {
    match file.metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Ok(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        }
        found => Ok(found?.permissions()),
    }
}

/// A moment that was given on the command line.
pub(super) fn moment(since: Duration) -> Result<SystemTime> {
    UNIX_EPOCH
        .checked_add(since)
        .ok_or_else(|| anyhow!("a time between the years 1970 and 9999 is needed"))
}

/// A moment as it is written.
pub(super) fn written(moment: SystemTime) -> String {
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    if since.subsec_micros() == 0 {
        humantime::format_rfc3339_seconds(moment).to_string()
    } else {
        humantime::format_rfc3339_micros(moment).to_string()
    }
}
