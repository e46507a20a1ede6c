//! The secrets a configuration names, looked up in this process's environment.

use std::collections::BTreeMap;

use postern_config::{NOT_A_VARIABLE, SecretRef, is_variable_name};
use postern_gate::config::{Config, Signature};
use postern_gate::{Secret, Secrets};
use sha2::{Digest as _, Sha256};

use crate::document::Problem;

/// The shortest secret that every scheme accepts, and that nobody finds by trying.
const STRONG: usize = 32;

/// What an unset variable is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unset {
    /// A warning; random bytes stand in, so that nothing is accepted that should not be.
    StandIn,
    /// An error.
    Error,
}

/// This process's environment, as the gate looks secrets up in it.
pub(crate) struct Environment<'a> {
    unset: Unset,
    lookup: &'a dyn Fn(&str) -> Option<Vec<u8>>,
    stand_in: [u8; STRONG],
}

impl<'a> Environment<'a> {
    pub(crate) fn new(unset: Unset, lookup: &'a dyn Fn(&str) -> Option<Vec<u8>>) -> anyhow::Result<Self> {
        let mut stand_in = [0; STRONG];
        fill_random(&mut stand_in)?;
        Ok(Self {
            unset,
            lookup,
            stand_in,
        })
    }

    fn value(&self, name: &str) -> Option<Vec<u8>> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// Random bytes, the same for each mention of a variable and others for each other.
    fn stand_in(&self, name: &str) -> Secret {
        let digest = Sha256::new()
            .chain_update(self.stand_in)
            .chain_update(name)
            .finalize();
        Secret::new(digest.to_vec())
    }

    /// Secrets that a gate takes and that are hardly meant: short ones, and one under two entries.
    pub(crate) fn doubtful(&self, config: &Config) -> Vec<Problem> {
        let mut holders: BTreeMap<Vec<u8>, String> = BTreeMap::new();
        let mut doubtful = Vec::new();
        for (path, name) in references(config)
            .into_iter()
            .filter(|(_, name)| is_variable_name(name))
        {
            let value = self.value(name);
            let length = value.as_ref().map_or(STRONG, Vec::len);
            if length < STRONG {
                let message = format!(
                    "{name} is shorter than {STRONG} bytes: whoever has seen a request can try secrets against it; use \
                     random bytes"
                );
                doubtful.push(Problem::at(path.clone(), message));
            }
            let holder = path
                .rsplit_once(".secret")
                .map_or(path.as_str(), |(holder, _)| holder)
                .to_owned();
            let known = value.unwrap_or_else(|| format!("unset {name}").into_bytes());
            match holders.get(&known) {
                Some(other) if *other != holder => {
                    let message = format!(
                        "{name} is the secret of {other} too: what is signed for one may pass for the other"
                    );
                    doubtful.push(Problem::at(path, message));
                }
                Some(_) => {}
                None => {
                    holders.insert(known, holder);
                }
            }
        }
        doubtful
    }

    /// What is wrong with the names alone: no gate needs to be compiled to see it.
    pub(crate) fn misnamed(config: &Config) -> Vec<Problem> {
        let misnamed = references(config)
            .into_iter()
            .filter(|(_, name)| !is_variable_name(name));
        misnamed
            .map(|(path, _)| Problem::at(path, NOT_A_VARIABLE))
            .collect()
    }

    /// The variables that are not set, with where they are named.
    pub(crate) fn unset(&self, config: &Config) -> Vec<Problem> {
        let unset = references(config)
            .into_iter()
            .filter(|(_, name)| is_variable_name(name) && self.value(name).is_none());
        unset
            .map(|(path, name)| {
                let message = format!("{name} is not set here; set it and pass --env to check it too");
                Problem::at(path, message)
            })
            .collect()
    }
}

impl Secrets for Environment<'_> {
    fn secret(&self, name: &str) -> Option<Secret> {
        match self.value(name) {
            Some(value) => Some(Secret::new(value)),
            // A name that is none was reported already, without repeating it.
            None if self.unset == Unset::Error && is_variable_name(name) => None,
            None => Some(self.stand_in(name)),
        }
    }
}

/// Fills `bytes` with the operating system's randomness.
pub(crate) fn fill_random(bytes: &mut [u8]) -> anyhow::Result<()> {
    getrandom::fill(bytes)
        .map_err(|error| anyhow::anyhow!("the operating system gave no random bytes: {error}"))
}

/// A secret in this process's environment: bytes, which need not be UTF-8, as in the filter.
pub(crate) fn secret(name: &str) -> Option<Vec<u8>> {
    std::env::var_os(name).map(std::ffi::OsString::into_encoded_bytes)
}

/// Every secret that is named: where, and the variable.
pub(crate) fn references(config: &Config) -> Vec<(String, &str)> {
    let issuers = config.issuers.iter().filter_map(|(name, issuer)| {
        let secret = issuer.secret.as_ref()?;
        Some((format!("issuers.{name}.secret.env"), secret.env.as_str()))
    });
    let signatures = config.signatures.iter().flat_map(|(name, signature)| {
        let at = format!("signatures.{name}");
        match signature {
            Signature::Github { secrets, .. } => listed(&at, secrets),
            Signature::Keyed { keys, .. } => keys
                .iter()
                .enumerate()
                .flat_map(|(i, key)| listed(&format!("{at}.keys[{i}]"), &key.secrets))
                .collect(),
        }
    });
    let host = config.host.iter().filter_map(|host| {
        let token = host.token.as_ref()?;
        Some(("host.token.env".to_owned(), token.env.as_str()))
    });
    issuers.chain(signatures).chain(host).collect()
}

fn listed<'a>(at: &str, secrets: &'a [SecretRef]) -> Vec<(String, &'a str)> {
    let numbered = secrets.iter().enumerate();
    numbered
        .map(|(i, secret)| (format!("{at}.secrets[{i}].env"), secret.env.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_is_unset() {
        let lookup = |_: &str| Some(Vec::new());
        let strict = Environment::new(Unset::Error, &lookup).unwrap();
        assert!(strict.secret("A").is_none());
        let lenient = Environment::new(Unset::StandIn, &lookup).unwrap();
        assert!(lenient.secret("A").is_some());
    }
}
