//! The address to listen on.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// An address to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// An IP address and port.
    Tcp(SocketAddr),
}

/// A text that is no address.
#[derive(Debug, thiserror::Error)]
#[error(
    "\"{0}\" is no address: write unix:///run/postern/kms-proxy.sock, or an IP address and port such as 127.0.0.1:9443"
)]
pub struct NoAddress(String);

impl Address {
    /// Reads an address; a relative path of a socket begins at `directory`.
    ///
    /// # Errors
    /// If it is none. Host names are none: what they stand for can change.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, NoAddress> {
        let wrong = || NoAddress(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" | "/" => Err(wrong()),
                path => Ok(Self::Unix(directory.join(path))),
            };
        }
        let tcp = text.strip_prefix("tcp://").unwrap_or(text);
        tcp.parse().map(Self::Tcp).map_err(|_| wrong())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(address) => write!(f, "tcp://{address}"),
        }
    }
}
