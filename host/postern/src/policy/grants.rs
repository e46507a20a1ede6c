//! The grants of a module that is run locally.

use std::collections::BTreeSet;

use anyhow::Result;
use postern_policy::{Capability, Grants, Module, ModuleKind};

/// The value of a `--grant` argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Grant {
    Capability(Capability),
    /// HTTP requests to this HTTP host.
    Host(String),
}

/// Parses `config` or `http=api.example.com`.
pub(super) fn parse(text: &str) -> Result<Grant, String> {
    match text.split_once('=') {
        Some(("http", host)) if is_host(host) => Ok(Grant::Host(host.to_owned())),
        Some(("http", _)) => Err("write http=HOST or http=HOST:PORT, without a scheme or path".to_owned()),
        Some((name, _)) => {
            capability(name)?;
            Err(format!("only http takes a value; write {name} alone"))
        }
        None => match capability(text)? {
            Capability::Http => {
                Err("name the host that it may call, such as http=api.example.com".to_owned())
            }
            capability => Ok(Grant::Capability(capability)),
        },
    }
}

/// Finds a capability by its name.
pub(super) fn capability(name: &str) -> Result<Capability, String> {
    Capability::from_name(name).ok_or_else(|| {
        let names = Capability::ALL.map(Capability::name);
        let near = names
            .iter()
            .find(|known| strsim::damerau_levenshtein(known, name) <= 2);
        match near {
            Some(known) => format!("there is no capability {name:?}; did you mean {known:?}?"),
            None => format!(
                "there is no capability {name:?}; the capabilities are {}",
                names.join(", ")
            ),
        }
    })
}

fn is_host(text: &str) -> bool {
    !text.is_empty() && !text.contains(['/', '@', '?', '#']) && !text.chars().any(char::is_whitespace)
}

/// The requested grants, and every usable capability that does not reach other systems.
pub(super) fn for_run(module: &Module, requested: &[Grant]) -> Grants {
    let mut grants = default_grants(module);
    for grant in requested {
        match grant {
            Grant::Capability(capability) => {
                grants.capabilities.insert(*capability);
            }
            Grant::Host(host) => {
                grants.capabilities.insert(Capability::Http);
                grants.hosts.push(host.clone());
            }
        }
    }
    grants
}

fn default_grants(module: &Module) -> Grants {
    let mut grants = for_cases(module);
    grants
        .capabilities
        .retain(|capability| !matches!(capability, Capability::Http | Capability::Signer));
    grants
}

/// Every capability that the module can use: those that it needs to be linked, and those that a `wasi:http` component
/// gets without an import: its configuration in a header, and a log behind its standard output.
pub(super) fn usable(module: &Module) -> BTreeSet<Capability> {
    let mut usable = module.required_capabilities();
    if module.kind() == ModuleKind::Http {
        usable.extend([Capability::Config, Capability::Log]);
    }
    usable
}

/// Grants for cases: all usable capabilities, but no HTTP hosts.
pub(super) fn for_cases(module: &Module) -> Grants {
    Grants {
        capabilities: usable(module),
        hosts: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_is_a_capability_or_an_http_host() {
        assert_eq!(parse("log"), Ok(Grant::Capability(Capability::Log)));
        assert_eq!(parse("http=127.0.0.1:80"), Ok(Grant::Host("127.0.0.1:80".into())));
        for (text, says) in [
            ("http", "name the host"),
            ("http=", "http=HOST"),
            ("http=https://a/", "without a scheme"),
            ("log=1", "log alone"),
            ("confg", "did you mean \"config\""),
            ("files", "the capabilities are config"),
            ("", "no capability"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
