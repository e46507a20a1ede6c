//! Resolves the secrets that a configuration names from the process environment.

use std::collections::BTreeMap;

use postern_config::{NOT_A_VARIABLE, SecretRef, is_variable_name};
use postern_gate::config::{Config, Signature};
use postern_gate::{Secret, Secrets};
use sha2::{Digest as _, Sha256};

use crate::document::Problem;

/// The length of the shortest secret that every scheme accepts and that cannot be guessed.
const MIN_SECRET_BYTES: usize = 32;

/// How an unset secret is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnsetSecret {
    /// A warning. Random bytes take its place, so that no credential verifies against it.
    Placeholder,
    Error,
}

/// The process environment as the gate's source of secrets.
pub(crate) struct Environment<'a> {
    unset: UnsetSecret,
    lookup: &'a dyn Fn(&str) -> Option<Vec<u8>>,
    placeholder: [u8; MIN_SECRET_BYTES],
}

impl<'a> Environment<'a> {
    pub(crate) fn new(
        unset: UnsetSecret,
        lookup: &'a dyn Fn(&str) -> Option<Vec<u8>>,
    ) -> anyhow::Result<Self> {
        let mut placeholder = [0; MIN_SECRET_BYTES];
        fill_random(&mut placeholder)?;
        Ok(Self {
            unset,
            lookup,
            placeholder,
        })
    }

    fn value(&self, name: &str) -> Option<Vec<u8>> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// Random bytes: the same for every reference to a variable, different for each variable.
    fn placeholder(&self, name: &str) -> Secret {
        let digest = Sha256::new()
            .chain_update(self.placeholder)
            .chain_update(name)
            .finalize();
        Secret::new(digest.to_vec())
    }

    /// Secrets that the gate accepts but that are probably mistakes: short ones, and one that two entries share.
    pub(crate) fn secret_warnings(&self, config: &Config) -> Vec<Problem> {
        let mut holders: BTreeMap<Vec<u8>, String> = BTreeMap::new();
        let mut secret_warnings = Vec::new();
        for (path, name) in references(config)
            .into_iter()
            .filter(|(_, name)| is_variable_name(name))
        {
            let value = self.value(name);
            let length = value.as_ref().map_or(MIN_SECRET_BYTES, Vec::len);
            if length < MIN_SECRET_BYTES {
                let message = format!(
                    "{name} is shorter than {MIN_SECRET_BYTES} bytes: anyone who has seen a signed request can \
                     guess it offline; use random bytes"
                );
                secret_warnings.push(Problem::at(path.clone(), message));
            }
            let holder = path
                .rsplit_once(".secret")
                .map_or(path.as_str(), |(holder, _)| holder)
                .to_owned();
            let known = value.unwrap_or_else(|| format!("unset {name}").into_bytes());
            match holders.get(&known) {
                Some(other) if *other != holder => {
                    let message = format!(
                        "{name} is also the secret of {other}: a signature for one may be valid for the other"
                    );
                    secret_warnings.push(Problem::at(path, message));
                }
                Some(_) => {}
                None => {
                    holders.insert(known, holder);
                }
            }
        }
        secret_warnings
    }

    /// References that are not names of variables. This check needs no compiled gate.
    pub(crate) fn invalid_names(config: &Config) -> Vec<Problem> {
        let invalid_names = references(config)
            .into_iter()
            .filter(|(_, name)| !is_variable_name(name));
        invalid_names
            .map(|(path, _)| Problem::at(path, NOT_A_VARIABLE))
            .collect()
    }

    /// The unset variables, each with the location of its reference.
    pub(crate) fn unset_secrets(&self, config: &Config) -> Vec<Problem> {
        let unset = references(config)
            .into_iter()
            .filter(|(_, name)| is_variable_name(name) && self.value(name).is_none());
        unset
            .map(|(path, name)| {
                let message = format!("{name} is not set here; set it and pass --env to check it as well");
                Problem::at(path, message)
            })
            .collect()
    }
}

impl Secrets for Environment<'_> {
    fn secret(&self, name: &str) -> Option<Secret> {
        match self.value(name) {
            Some(value) => Some(Secret::new(value)),
            // An invalid name was already reported, without its value.
            None if self.unset == UnsetSecret::Error && is_variable_name(name) => None,
            None => Some(self.placeholder(name)),
        }
    }
}

/// Fills `bytes` from the operating system's random number generator.
pub(crate) fn fill_random(bytes: &mut [u8]) -> anyhow::Result<()> {
    getrandom::fill(bytes)
        .map_err(|error| anyhow::anyhow!("cannot get random bytes from the operating system: {error}"))
}

/// A secret from the process environment, as bytes: it need not be UTF-8, as in the filter.
pub(crate) fn secret(name: &str) -> Option<Vec<u8>> {
    std::env::var_os(name).map(std::ffi::OsString::into_encoded_bytes)
}

/// Every secret reference: its location and the variable.
pub(crate) fn references(config: &Config) -> Vec<(String, &str)> {
    let issuers = config.issuers.iter().filter_map(|(name, issuer)| {
        let secret = issuer.secret.as_ref()?;
        Some((format!("issuers.{name}.secret.env"), secret.env.as_str()))
    });
    let signatures = config.signatures.iter().flat_map(|(name, signature)| {
        let at = format!("signatures.{name}");
        match signature {
            Signature::Github { secrets, .. } => secret_refs(&at, secrets),
            Signature::Keyed { keys, .. } => keys
                .iter()
                .enumerate()
                .flat_map(|(i, key)| secret_refs(&format!("{at}.keys[{i}]"), &key.secrets))
                .collect(),
        }
    });
    let host = config.host.iter().filter_map(|host| {
        let token = host.token.as_ref()?;
        Some(("host.token.env".to_owned(), token.env.as_str()))
    });
    issuers.chain(signatures).chain(host).collect()
}

fn secret_refs<'a>(at: &str, secrets: &'a [SecretRef]) -> Vec<(String, &'a str)> {
    let numbered = secrets.iter().enumerate();
    numbered
        .map(|(i, secret)| (format!("{at}.secrets[{i}].env"), secret.env.as_str()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let lookup = |_: &str| Some(Vec::new());
        let strict = Environment::new(UnsetSecret::Error, &lookup).unwrap();
        assert!(strict.secret("A").is_none());
        let lenient = Environment::new(UnsetSecret::Placeholder, &lookup).unwrap();
        assert!(lenient.secret("A").is_some());
    }
}
