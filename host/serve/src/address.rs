//! Addresses to listen on.

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

/// The text is not an address.
#[derive(Debug, thiserror::Error)]
#[error(
    "\"{0}\" is not an address: write unix:///run/postern/name.sock, or an IP address and port such as 127.0.0.1:9191"
)]
pub struct AddressError(String);

impl Address {
    /// Parses an address. A relative socket path is relative to `directory`.
    ///
    /// # Errors
    /// If the text is not an address. Host names are rejected: what they resolve to can change.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, AddressError> {
        let invalid = || AddressError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" | "/" => Err(invalid()),
                path => Ok(Self::Unix(directory.join(path))),
            };
        }
        let tcp = text.strip_prefix("tcp://").unwrap_or(text);
        tcp.parse().map(Self::Tcp).map_err(|_| invalid())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_they_are_written() {
        let read = |text: &str| {
            let address = Address::parse(text, Path::new("/etc/postern"));
            address.map(|address| address.to_string()).ok()
        };
        for (text, expected) in [
            ("127.0.0.1:1", Some("tcp://127.0.0.1:1")),
            ("tcp://[::1]:1", Some("tcp://[::1]:1")),
            ("unix:///run/a.sock", Some("unix:///run/a.sock")),
            ("unix:a.sock", Some("unix:///etc/postern/a.sock")),
            ("localhost:1", None),
            ("unix://", None),
            ("", None),
        ] {
            assert_eq!(read(text).as_deref(), expected, "{text}");
        }
    }
}
