//! Listeners on TCP and Unix sockets.

use std::io;

use tokio::net::{TcpListener, UnixListener};

use crate::address::Address;
use crate::listen_error::ListenError;
use crate::socket_file::{self, SocketFile};

/// A bound listener that does not serve yet.
#[derive(Debug)]
pub struct Listener(pub(crate) Socket);

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Listener {
    /// Listens on an address. A Unix socket is accessible to this user and group (mode 0660), and replaces a socket
    /// that an exited process left behind.
    ///
    /// # Errors
    /// If the address is in use, or the system rejects it.
    pub async fn bind(address: &Address) -> Result<Self, ListenError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse(address.clone()),
            _ => ListenError::Io(address.clone(), error),
        };
        let socket = match address {
            Address::Tcp(tcp) => Socket::Tcp(TcpListener::bind(tcp).await.map_err(failed)?),
            Address::Unix(path) => {
                socket_file::check_vacant(path, address)?;
                let (listener, file) = socket_file::bind(path).map_err(failed)?;
                Socket::Unix(listener, file)
            }
        };
        Ok(Self(socket))
    }

    /// The address, with the port that the system chose for port 0.
    #[must_use]
    pub fn address(&self) -> Option<Address> {
        match &self.0 {
            Socket::Tcp(listener) => listener.local_addr().ok().map(Address::Tcp),
            Socket::Unix(_, file) => Some(Address::Unix(file.path().to_owned())),
        }
    }

    /// Whether it is a Unix socket: only this machine can connect, with file system permissions.
    #[must_use]
    pub fn is_unix(&self) -> bool {
        matches!(self.0, Socket::Unix(..))
    }
}
