//! Unused TCP ports.

use std::io;
use std::net::TcpListener;

/// A TCP port of the loopback address that was free during the call.
///
/// Another process may take it before the caller binds it. A server that can bind port 0 itself should do so;
/// [`crate::envoy::Envoy`] reports the ports of its listeners.
///
/// # Errors
///
/// When no socket can be bound, e.g. for lack of file descriptors.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
