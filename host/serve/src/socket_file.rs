//! The file of a Unix socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::address::Address;
use crate::listen_error::ListenError;

/// Only this user and group may connect; the clients' processes run in this group.
const MODE: u32 = 0o660;

/// The file of a Unix socket. Removed when dropped, unless it has been replaced.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Checks that no process listens on a path, and that nothing but a socket exists there.
pub(crate) fn check_vacant(path: &Path, address: &Address) -> Result<(), ListenError> {
    let failed = |error| ListenError::Io(address.clone(), error);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => Err(ListenError::NotASocket(address.clone())),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => Err(ListenError::InUse(address.clone())),
            // Its process exited without removing it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(failed(error)),
        },
    }
}

/// Creates the socket in a private directory and moves it into place with its mode, so that no other user can connect
/// before.
pub(crate) fn bind(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let closed = tempfile::Builder::new()
        .prefix(".")
        .rand_bytes(4)
        .tempdir_in(parent)?;
    let made = closed.path().join("s");
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, Permissions::from_mode(MODE))?;
    let found = fs::symlink_metadata(&made)?;
    fs::rename(&made, path)?;
    let file = SocketFile {
        path: path.to_owned(),
        identity: (found.dev(), found.ino()),
    };
    Ok((listener, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_limited_to_its_group_and_only_a_stale_one_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let address = Address::Unix(path.clone());
        let (listener, file) = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, MODE);
        assert!(matches!(
            check_vacant(&path, &address),
            Err(ListenError::InUse(_))
        ));
        drop(listener);
        check_vacant(&path, &address).unwrap();
        drop(file);
        assert!(!path.exists());
        fs::write(&path, "a file").unwrap();
        assert!(matches!(
            check_vacant(&path, &address),
            Err(ListenError::NotASocket(_))
        ));
    }
}
