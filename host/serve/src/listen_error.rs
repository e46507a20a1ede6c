//! Errors of listeners.

use std::io;

use crate::address::Address;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// A file exists that is not a socket and is not replaced.
    #[error("{0} exists and is not a socket: remove it, or set another path")]
    NotASocket(Address),
    /// Another process listens there.
    #[error("{0} is in use by another process")]
    InUse(Address),
    /// The system call failed.
    #[error("cannot listen on {0}: {1}")]
    Io(Address, #[source] io::Error),
}
