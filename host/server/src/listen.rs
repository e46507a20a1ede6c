//! Listeners on TCP and on Unix sockets.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use crate::Address;

/// Who may connect to our sockets: our user and our group, Envoy's among it.
const MODE: u32 = 0o660;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Something is there that is not ours to replace.
    #[error("{0} is there and is no socket: remove it, or name another path")]
    Taken(Address),
    /// Someone listens there.
    #[error("{0} is in use by another process")]
    InUse(Address),
    /// The system refuses.
    #[error("cannot listen on {0}: {1}")]
    Io(Address, #[source] io::Error),
}

/// A listener of either kind.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, Socket),
}

/// The file of a Unix socket; removed when dropped, if it still is the one that was made.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    made: (u64, u64),
}

impl Drop for Socket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.made) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    /// Listens on an address.
    pub(crate) async fn bind(address: &Address) -> Result<Self, ListenError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse(address.clone()),
            _ => ListenError::Io(address.clone(), error),
        };
        match address {
            Address::Tcp(tcp) => TcpListener::bind(tcp).await.map(Self::Tcp).map_err(failed),
            Address::Unix(path) => {
                vacate(path, address)?;
                bind_unix(path)
                    .map(|(listener, socket)| Self::Unix(listener, socket))
                    .map_err(failed)
            }
        }
    }

    /// The address, with the port that the system chose for port 0.
    pub(crate) fn address(&self) -> Option<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(Address::Tcp),
            Self::Unix(_, socket) => Some(Address::Unix(socket.path.clone())),
        }
    }
}

/// Makes sure that nobody listens at a path, and that nothing but a socket is there.
fn vacate(path: &Path, address: &Address) -> Result<(), ListenError> {
    let failed = |error| ListenError::Io(address.clone(), error);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => Err(ListenError::Taken(address.clone())),
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => Err(ListenError::InUse(address.clone())),
            // A host that ended without removing it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(failed(error)),
        },
    }
}

/// Made in a directory that is closed to others and moved into place with its mode: nobody can connect before.
fn bind_unix(path: &Path) -> io::Result<(UnixListener, Socket)> {
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
    let socket = Socket {
        path: path.to_owned(),
        made: (found.dev(), found.ino()),
    };
    Ok((listener, socket))
}
