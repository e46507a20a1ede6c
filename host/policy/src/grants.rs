//! Host capabilities granted to a policy.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A capability, under its name in settings and manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capability {
    /// Read the entry's configuration.
    Config,
    /// Write to the host's log.
    Log,
    /// Read the wall clock.
    Clock,
    /// Store values that outlive a request.
    Keyvalue,
    /// Send requests to the HTTP hosts granted with it.
    Http,
    /// Sign with the host's KMS key.
    Signer,
}

impl Capability {
    /// Every capability.
    pub const ALL: [Self; 6] = [
        Self::Config,
        Self::Log,
        Self::Clock,
        Self::Keyvalue,
        Self::Http,
        Self::Signer,
    ];

    /// Its name in settings and in `postern:policy/<name>`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Log => "log",
            Self::Clock => "clock",
            Self::Keyvalue => "keyvalue",
            Self::Http => "http",
            Self::Signer => "signer",
        }
    }

    /// The inverse of [`name`](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.name() == name)
    }
}

/// The capabilities granted to an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// The granted set; empty by default.
    pub capabilities: BTreeSet<Capability>,
    /// With [`Capability::Http`], the HTTP hosts that requests may go to: `api.example.com` or `127.0.0.1:8080`. A host
    /// without a port means the default port of either scheme.
    pub hosts: Vec<String>,
}

impl Grants {
    /// Whether a capability is granted.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// Whether requests may go to this host, with the port if the URL names one.
    #[must_use]
    pub fn allows_host(&self, host: &str, port: Option<u16>) -> bool {
        self.has(Capability::Http)
            && self
                .hosts
                .iter()
                .any(|granted| match (granted.rsplit_once(':'), port) {
                    (Some((name, number)), Some(port)) => {
                        name.eq_ignore_ascii_case(host) && number.parse() == Ok(port)
                    }
                    (_, None) => granted.eq_ignore_ascii_case(host),
                    (None, Some(_)) => false,
                })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_granted_hosts_are_allowed() {
        let grants = Grants {
            capabilities: [Capability::Http].into(),
            hosts: vec!["api.example.com".into(), "127.0.0.1:8080".into()],
        };
        for (host, port, allowed) in [
            ("api.example.com", None, true),
            ("API.example.com", None, true),
            ("api.example.com", Some(8443), false),
            ("evil.example.com", None, false),
            ("api.example.com.evil.example", None, false),
            ("127.0.0.1", Some(8080), true),
            ("127.0.0.1", Some(8081), false),
            ("127.0.0.1", None, false),
        ] {
            assert_eq!(grants.allows_host(host, port), allowed, "{host} {port:?}");
        }
        let without = Grants {
            hosts: grants.hosts.clone(),
            ..Grants::default()
        };
        assert!(
            !without.allows_host("api.example.com", None),
            "hosts without the capability grant nothing"
        );
    }
}
