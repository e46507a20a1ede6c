//! From a configuration to a gate: names resolved, keys decoded, secrets read, every error found.

mod audit;
mod claim_header;
mod credential;
mod issuer;
mod matcher;
mod pattern;
mod policy;
mod rule;

use postern_config::{ConfigErrors, SecretRef};

use crate::config::Config;
use crate::gate::Gate;
use crate::jwt::Issuers;
use crate::limit::Limit;
use crate::rule::{Rule, Rules};
use crate::secret::{Secret, Secrets};

/// The shortest secret that is taken. `postern check` asks for more.
const MIN_SECRET: usize = 8;

impl Gate {
    /// Compiles a configuration. Secrets are looked up once, here.
    ///
    /// # Errors
    /// Everything in the configuration that makes no sense, each with its path.
    pub fn compile(config: &Config, secrets: &dyn Secrets) -> Result<Self, ConfigErrors> {
        let mut c = Compiler {
            config,
            secrets,
            errors: ConfigErrors::default(),
        };
        let issuers = config
            .issuers
            .iter()
            .map(|(name, issuer)| c.issuer(name, issuer))
            .collect();
        let api_keys = config
            .api_keys
            .iter()
            .map(|(name, keys)| c.api_keys(name, keys))
            .collect();
        let schemes = config
            .signatures
            .iter()
            .map(|(name, s)| c.signature(name, s))
            .collect();
        let limits: Vec<Limit> = config
            .limits
            .iter()
            .filter_map(|(name, limit)| c.limit(name, limit))
            .collect();
        let rules: Vec<Rule> = config
            .rules
            .iter()
            .enumerate()
            .map(|(i, rule)| c.rule(i, rule))
            .collect();
        c.rule_names();
        let host = config.host.as_ref().map(|host| c.policy_host(host));
        let audit = config.audit.as_ref().map(|audit| c.audit(audit));
        let reserved = config
            .issuers
            .values()
            .flat_map(|issuer| issuer.headers.keys().cloned())
            .collect();
        let gate = Self::new(
            Issuers::new(issuers),
            api_keys,
            schemes,
            limits,
            Rules::new(rules),
            config.default,
            reserved,
        )
        .asking(host)
        .telling(audit);
        c.errors.or_ok(gate)
    }
}

struct Compiler<'a> {
    config: &'a Config,
    secrets: &'a dyn Secrets,
    errors: ConfigErrors,
}

impl Compiler<'_> {
    fn name(&mut self, kind: &str, name: &str) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            let message = format!("the name \"{name}\" must be 1 to 64 letters, digits, \"-\" or \"_\"");
            self.errors.add(kind, message);
        }
    }

    /// What an unset variable leaves in a list stands for nothing.
    fn not_empty(&mut self, at: &str, names: &[String]) {
        for (i, name) in names.iter().enumerate() {
            if name.trim().is_empty() {
                self.errors.add(format!("{at}[{i}]"), "must not be empty");
            }
        }
    }

    fn secret(&mut self, at: &str, reference: &SecretRef) -> Option<Secret> {
        let secret = self
            .secrets
            .secret(&reference.env)
            .filter(|secret| !secret.is_empty());
        if secret.is_none() {
            // What is no variable's name may be the secret itself and is not repeated.
            let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
            let name = if reference.env.bytes().all(plain) {
                reference.env.as_str()
            } else {
                "the variable named here"
            };
            let message = format!(
                "{name} is not set; pass it to the VM in environment_variables.host_env_keys (Istio: vmConfig.env)"
            );
            self.errors.add(format!("{at}.env"), message);
        }
        if secret
            .as_ref()
            .is_some_and(|secret| secret.expose().len() < MIN_SECRET)
        {
            let message = format!(
                "is shorter than {MIN_SECRET} bytes: whoever has seen one request finds it by trying; use 32 random bytes"
            );
            self.errors.add(at, message);
        }
        secret
    }

    fn secrets(&mut self, at: &str, references: &[SecretRef]) -> Vec<Secret> {
        if references.is_empty() {
            self.errors.add(at, "must name at least one secret");
        }
        references
            .iter()
            .enumerate()
            .filter_map(|(i, r)| self.secret(&format!("{at}[{i}]"), r))
            .collect()
    }
}

/// Host and path of an http or https URI.
#[must_use]
pub fn split_uri(uri: &str) -> Option<(&str, &str)> {
    let rest = uri
        .strip_prefix("https://")
        .or_else(|| uri.strip_prefix("http://"))?;
    let slash = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at_checked(slash)?;
    let path = if path.is_empty() { "/" } else { path };
    (!host.is_empty() && !path.contains('#')).then_some((host, path))
}
