//! Errors of listeners.

use std::io;

use crate::address::Address;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Something is there that is not ours to replace.
    #[error("{0} is there and is no socket: remove it, or name another path")]
    NotASocket(Address),
    /// Another process listens there.
    #[error("{0} is in use by another process")]
    InUse(Address),
    /// The system refuses.
    #[error("cannot listen on {0}: {1}")]
    Io(Address, #[source] io::Error),
}
