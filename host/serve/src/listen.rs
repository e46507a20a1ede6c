//! Listeners on TCP and on Unix sockets.

use std::io;

use tokio::net::{TcpListener, UnixListener};

use crate::Address;
use crate::socket_file::{self, SocketFile};

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Something is there that is not ours to replace.
    #[error("{0} is there and is no socket: remove it, or name another path")]
    Taken(Address),
    /// Another process listens there.
    #[error("{0} is in use by another process")]
    InUse(Address),
    /// The system refuses.
    #[error("cannot listen on {0}: {1}")]
    Io(Address, #[source] io::Error),
}

/// A listener that is bound and not serving yet.
#[derive(Debug)]
pub struct Listener(pub(crate) Kind);

#[derive(Debug)]
pub(crate) enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Listens on an address. A Unix socket is for this user and group (mode 0660), and replaces one that a process left
    /// behind.
    ///
    /// # Errors
    /// If the address is in use, or the system refuses.
    pub async fn bind(address: &Address) -> Result<Self, ListenError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse(address.clone()),
            _ => ListenError::Io(address.clone(), error),
        };
        let kind = match address {
            Address::Tcp(tcp) => Kind::Tcp(TcpListener::bind(tcp).await.map_err(failed)?),
            Address::Unix(path) => {
                socket_file::vacate(path, address)?;
                let (listener, file) = socket_file::bind(path).map_err(failed)?;
                Kind::Unix(listener, file)
            }
        };
        Ok(Self(kind))
    }

    /// The address, with the port that the system chose for port 0.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        match &self.0 {
            Kind::Tcp(listener) => listener.local_addr().ok().map(Address::Tcp),
            Kind::Unix(_, file) => Some(Address::Unix(file.path().to_owned())),
        }
    }

    /// Whether only this machine reaches it, by permission of the file system.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self.0, Kind::Unix(..))
    }
}
