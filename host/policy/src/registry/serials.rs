//! The serials of manifests that were taken.
//!
//! A signature says who vouches for a manifest, not that it is their last word: whoever can write to the manifest's
//! directory can put an older one there, signed as it is, with the modules that it lists. So the host remembers the
//! highest serial that it has taken, in a file of its own, and takes none below.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::Digest;

/// The file in the directory of the host's state.
const FILE: &str = "manifest-serials.json";
/// The largest such file, in bytes.
const LARGEST: u64 = 1 << 20;

/// The last manifest that was taken from a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seen {
    pub(super) serial: u64,
    /// What it said: one serial stands for one manifest.
    pub(super) digest: Digest,
}

/// By the manifest's path.
type Taken = BTreeMap<PathBuf, Seen>;

/// What was taken since the host started: what there is without a file.
#[derive(Debug, Default)]
pub(super) struct Serials(Mutex<Taken>);

/// Why a manifest is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum SerialError {
    #[error(
        "has the serial {serial}, and this host has taken {seen}: an older manifest is not taken again. To go back to what it \
         lists, sign it anew: postern policy sign --renew"
    )]
    Older { serial: u64, seen: u64 },
    #[error(
        "has the serial {0} of another manifest that this host has taken: sign it anew: postern policy sign --renew"
    )]
    Same(u64),
    #[error("its serial cannot be held against those that were taken: {}: {error}; see policies.state", file.display())]
    State { file: PathBuf, error: io::Error },
}

impl Serials {
    /// Takes a manifest, or only looks whether it would be, if nothing is to be remembered. Reads and writes a file:
    /// not for a thread that serves.
    pub(super) fn take(
        &self,
        state: Option<&Path>,
        manifest: &Path,
        new: Seen,
        remember: bool,
    ) -> Result<(), SerialError> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file = state.map(|directory| directory.join(FILE));
        let mut kept = match &file {
            Some(file) => read(file).map_err(|error| failed(file, error))?,
            None => Taken::new(),
        };
        for seen in [taken.get(manifest), kept.get(manifest)].into_iter().flatten() {
            newer(*seen, new)?;
        }
        if !remember {
            return Ok(());
        }
        if let (Some(directory), Some(file)) = (state, &file)
            && kept.insert(manifest.to_owned(), new) != Some(new)
        {
            write(directory, file, &kept).map_err(|error| failed(file, error))?;
        }
        if taken.insert(manifest.to_owned(), new) != Some(new) && new.serial == 0 {
            tracing::warn!(
                manifest = %manifest.display(),
                "the manifest has no serial: an older one could take its place unnoticed; `postern policy sign` gives it one"
            );
        }
        Ok(())
    }
}

fn failed(file: &Path, error: io::Error) -> SerialError {
    SerialError::State {
        file: file.to_owned(),
        error,
    }
}

fn newer(seen: Seen, new: Seen) -> Result<(), SerialError> {
    if new.serial < seen.serial {
        return Err(SerialError::Older {
            serial: new.serial,
            seen: seen.serial,
        });
    }
    if new.serial == seen.serial && new.serial > 0 && new.digest != seen.digest {
        return Err(SerialError::Same(new.serial));
    }
    Ok(())
}

fn read(file: &Path) -> io::Result<Taken> {
    let directory = file.parent().unwrap_or(file);
    if std::fs::metadata(directory).is_ok_and(|found| found.permissions().mode() & 0o022 != 0) {
        return Err(io::Error::other("others can write to its directory (chmod go-w)"));
    }
    match postern_files::read(file, LARGEST) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Taken::new()),
        Err(error) => Err(error),
    }
}

/// Written aside and renamed, and durable before anything is loaded by it.
fn write(directory: &Path, file: &Path, kept: &Taken) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut new = tempfile::NamedTempFile::new_in(directory)?;
    new.write_all(&serde_json::to_vec_pretty(kept).map_err(io::Error::other)?)?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(serial: u64, content: &[u8]) -> Seen {
        Seen {
            serial,
            digest: Digest::of(content),
        }
    }

    #[test]
    fn no_serial_goes_below_one_that_was_taken_by_an_earlier_process() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let path = Path::new("/etc/postern/manifest.json");
        let take = |serials: &Serials, new| serials.take(Some(&state), path, new, true);
        let serials = Serials::default();
        take(&serials, seen(0, b"from before there were serials")).unwrap();
        take(&serials, seen(0, b"another of these")).unwrap();
        take(&serials, seen(7, b"seven")).unwrap();
        for process in [serials, Serials::default()] {
            take(&process, seen(7, b"seven")).unwrap();
            for old in [
                seen(0, b"another of these"),
                seen(6, b"six"),
                seen(7, b"another seven"),
            ] {
                assert!(take(&process, old).is_err(), "{old:?}");
            }
        }
        // What is only looked at is not remembered.
        let next = Serials::default();
        next.take(Some(&state), path, seen(9, b"nine"), false).unwrap();
        take(&next, seen(8, b"eight")).unwrap();
        // Each manifest has its own.
        let other = Path::new("/etc/other/manifest.json");
        next.take(Some(&state), other, seen(1, b"one"), true).unwrap();

        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            take(&next, seen(99, b"x")),
            Err(SerialError::State { .. })
        ));
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(state.join(FILE), "{").unwrap();
        assert!(matches!(
            take(&next, seen(99, b"x")),
            Err(SerialError::State { .. })
        ));
    }

    #[test]
    fn without_a_file_a_process_remembers() {
        let serials = Serials::default();
        let path = Path::new("/etc/postern/manifest.json");
        serials.take(None, path, seen(7, b"seven"), true).unwrap();
        assert!(serials.take(None, path, seen(6, b"six"), true).is_err());
    }
}
