//! The listener: TCP with TLS or, on this machine, without, or a Unix socket.

use std::fs::{self, Permissions};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::accept::{DefaultAcceptor, NoDelayAcceptor};
use axum_server::tls_rustls::RustlsConfig;
use postern_serve::{Bounded, Connections, bounded};

use crate::settings::Address;
use crate::tls::Acceptor;

/// Who may connect to our socket: our user and our group, the host's among it.
const MODE: u32 = 0o660;
/// How long the head of a request may take to arrive.
const HEAD: Duration = Duration::from_secs(10);
/// Requests at the same time over one connection (HTTP/2).
const STREAMS: u32 = 256;
/// How long a proxy that stops waits for what it has begun.
pub(crate) const STOPPING: Duration = Duration::from_secs(10);

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Something is there that is not ours to replace.
    #[error("listen: {0} is there and is no socket: remove it, or name another path")]
    Taken(Address),
    /// Someone listens there.
    #[error("listen: {0} is in use by another process")]
    InUse(Address),
    /// The system refuses.
    #[error("listen: cannot listen on {0}: {1}")]
    Io(Address, #[source] io::Error),
}

/// A listener, not serving yet.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener, SocketAddr),
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
    pub(crate) fn bind(address: &Address) -> Result<Self, ListenError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse(address.clone()),
            _ => ListenError::Io(address.clone(), error),
        };
        match address {
            Address::Tcp(tcp) => {
                let listener = TcpListener::bind(tcp).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let bound = listener.local_addr().map_err(failed)?;
                Ok(Self::Tcp(listener, bound))
            }
            Address::Unix(path) => {
                vacate(path, address)?;
                bind_unix(path)
                    .map(|(listener, socket)| Self::Unix(listener, socket))
                    .map_err(failed)
            }
        }
    }

    /// The address, with the port that the system chose for port 0.
    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Tcp(_, bound) => Address::Tcp(*bound),
            Self::Unix(_, socket) => Address::Unix(socket.path.clone()),
        }
    }

    /// Serves until it is stopped.
    pub(crate) async fn serve(
        self,
        routes: Router,
        tls: Option<RustlsConfig>,
        stop: Stop,
        connections: Arc<Connections>,
    ) -> io::Result<()> {
        let service = routes.into_make_service();
        match (self, tls) {
            (Self::Tcp(listener, _), Some(tls)) => {
                let server =
                    axum_server::from_tcp(listener)?.acceptor(Bounded::new(Acceptor::new(tls), connections));
                bounded(server, HEAD, STREAMS)
                    .handle(stop.tcp)
                    .serve(service)
                    .await
            }
            (Self::Tcp(listener, _), None) => {
                let server = axum_server::from_tcp(listener)?
                    .acceptor(Bounded::new(NoDelayAcceptor::new(), connections));
                bounded(server, HEAD, STREAMS)
                    .handle(stop.tcp)
                    .serve(service)
                    .await
            }
            (Self::Unix(listener, socket), _) => {
                let _there_while_it_serves = socket;
                let server = axum_server::from_unix(listener)?
                    .acceptor(Bounded::new(DefaultAcceptor::new(), connections));
                bounded(server, HEAD, STREAMS)
                    .handle(stop.unix)
                    .serve(service)
                    .await
            }
        }
    }
}

/// Stops a listener.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    tcp: Handle<SocketAddr>,
    unix: Handle<UnixAddr>,
}

impl Stop {
    /// Accepts nothing more, and finishes what has begun, for a while.
    pub(crate) fn stop(&self) {
        self.tcp.graceful_shutdown(Some(STOPPING));
        self.unix.graceful_shutdown(Some(STOPPING));
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
            // A proxy that ended without removing it.
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
    listener.set_nonblocking(true)?;
    fs::set_permissions(&made, Permissions::from_mode(MODE))?;
    let found = fs::symlink_metadata(&made)?;
    fs::rename(&made, path)?;
    let socket = Socket {
        path: path.to_owned(),
        made: (found.dev(), found.ino()),
    };
    Ok((listener, socket))
}
