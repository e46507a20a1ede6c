//! Rollback protection: the highest accepted serial of each manifest.
//!
//! A valid signature does not prove that a manifest is the latest one. Anyone who can write to the manifest's directory
//! can install an older signed manifest with its modules. The host therefore records the highest serial it has accepted,
//! in a state file, and rejects lower ones.

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::Digest;

/// Name of the state file in the state directory.
const FILE: &str = "manifest-serials.json";
/// Maximum size of the state file, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// The last manifest accepted from a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ManifestSerial {
    pub(super) serial: u64,
    /// Digest of its signed contents: a serial identifies one manifest.
    pub(super) digest: Digest,
}

/// Accepted serials by manifest path.
type SerialMap = BTreeMap<PathBuf, ManifestSerial>;

/// Serials accepted since the host started. Without a state file there is no other record.
#[derive(Debug, Default)]
pub(super) struct Serials(Mutex<SerialMap>);

/// A manifest is rejected because of its serial.
#[derive(Debug, thiserror::Error)]
pub(super) enum SerialError {
    #[error(
        "has the serial {serial}, and this host has accepted {accepted}: an older manifest is rejected. To return to the \
         modules it lists, sign it again with a new serial: postern policy sign --renew"
    )]
    Older { serial: u64, accepted: u64 },
    #[error(
        "has the serial {0} of a different manifest that this host has accepted: sign it with a new serial: postern policy sign --renew"
    )]
    Reused(u64),
    #[error("its serial cannot be checked: {}: {error}; see policies.state", file.display())]
    StateFile { file: PathBuf, error: io::Error },
}

impl Serials {
    /// Checks the serial of a manifest and, with `record`, records it. Blocking file I/O: do not call it on a thread that
    /// serves requests.
    pub(super) fn accept(
        &self,
        state: Option<&Path>,
        manifest: &Path,
        new: ManifestSerial,
        record: bool,
    ) -> Result<(), SerialError> {
        let mut in_memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file = state.map(|directory| directory.join(FILE));
        let mut on_disk = match &file {
            Some(file) => read(file).map_err(|error| state_error(file, error))?,
            None => SerialMap::new(),
        };
        for accepted in [in_memory.get(manifest), on_disk.get(manifest)]
            .into_iter()
            .flatten()
        {
            check_newer(*accepted, new)?;
        }
        if !record {
            return Ok(());
        }
        if let (Some(directory), Some(file)) = (state, &file)
            && on_disk.insert(manifest.to_owned(), new) != Some(new)
        {
            write(directory, file, &on_disk).map_err(|error| state_error(file, error))?;
        }
        if in_memory.insert(manifest.to_owned(), new) != Some(new) && new.serial == 0 {
            tracing::warn!(
                manifest = %manifest.display(),
                "the manifest has no serial, so replacing it with an older one would go unnoticed; sign it again with `postern policy sign` to add one"
            );
        }
        Ok(())
    }
}

fn state_error(file: &Path, error: io::Error) -> SerialError {
    SerialError::StateFile {
        file: file.to_owned(),
        error,
    }
}

fn check_newer(accepted: ManifestSerial, new: ManifestSerial) -> Result<(), SerialError> {
    if new.serial < accepted.serial {
        return Err(SerialError::Older {
            serial: new.serial,
            accepted: accepted.serial,
        });
    }
    if new.serial == accepted.serial && new.serial > 0 && new.digest != accepted.digest {
        return Err(SerialError::Reused(new.serial));
    }
    Ok(())
}

fn read(file: &Path) -> io::Result<SerialMap> {
    let directory = file.parent().unwrap_or(file);
    if std::fs::metadata(directory).is_ok_and(|found| found.permissions().mode() & 0o022 != 0) {
        return Err(io::Error::other(
            "its directory is writable by other users (run chmod go-w on it)",
        ));
    }
    match postern_files::read(file, MAX_FILE) {
        Ok(text) => serde_json::from_slice(&text).map_err(io::Error::other),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(SerialMap::new()),
        Err(error) => Err(error),
    }
}

/// Writes to a temporary file and renames it. The state is durable before anything is loaded from the manifest.
fn write(directory: &Path, file: &Path, on_disk: &SerialMap) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut new = tempfile::NamedTempFile::new_in(directory)?;
    new.write_all(&serde_json::to_vec_pretty(on_disk).map_err(io::Error::other)?)?;
    new.as_file().sync_all()?;
    new.persist(file)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(serial: u64, content: &[u8]) -> ManifestSerial {
        ManifestSerial {
            serial,
            digest: Digest::of(content),
        }
    }

    #[test]
    fn a_serial_below_one_accepted_by_an_earlier_process_is_rejected() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let path = Path::new("/etc/postern/manifest.json");
        let accept = |serials: &Serials, new| serials.accept(Some(&state), path, new, true);
        let serials = Serials::default();
        accept(&serials, accepted(0, b"from before there were serials")).unwrap();
        accept(&serials, accepted(0, b"another of these")).unwrap();
        accept(&serials, accepted(7, b"seven")).unwrap();
        for process in [serials, Serials::default()] {
            accept(&process, accepted(7, b"seven")).unwrap();
            for old in [
                accepted(0, b"another of these"),
                accepted(6, b"six"),
                accepted(7, b"another seven"),
            ] {
                assert!(accept(&process, old).is_err(), "{old:?}");
            }
        }
        // A check alone records nothing.
        let next = Serials::default();
        next.accept(Some(&state), path, accepted(9, b"nine"), false)
            .unwrap();
        accept(&next, accepted(8, b"eight")).unwrap();
        // Serials are recorded per manifest.
        let other = Path::new("/etc/other/manifest.json");
        next.accept(Some(&state), other, accepted(1, b"one"), true)
            .unwrap();

        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            accept(&next, accepted(99, b"x")),
            Err(SerialError::StateFile { .. })
        ));
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::write(state.join(FILE), "{").unwrap();
        assert!(matches!(
            accept(&next, accepted(99, b"x")),
            Err(SerialError::StateFile { .. })
        ));
    }

    #[test]
    fn without_a_state_file_serials_are_kept_in_memory() {
        let serials = Serials::default();
        let path = Path::new("/etc/postern/manifest.json");
        serials.accept(None, path, accepted(7, b"seven"), true).unwrap();
        assert!(serials.accept(None, path, accepted(6, b"six"), true).is_err());
    }
}
