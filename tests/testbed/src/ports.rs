//! Ports that nobody listens on.

use std::io;
use std::net::TcpListener;

/// A TCP port on the loopback address that was free a moment ago.
///
/// Another process may take it in between. Where the listener can bind port 0 itself, prefer that:
/// [`crate::envoy::Envoy`] reports the ports its listeners got.
///
/// # Errors
///
/// When no socket can be bound, e.g. because file descriptors ran out.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
