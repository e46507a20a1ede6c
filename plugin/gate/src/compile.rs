//! Compiles a configuration into a gate: resolves names, parses keys, looks up secrets, and reports every error.

mod audit;
mod claim_header;
mod credential;
mod issuer;
mod matcher;
mod pattern;
mod policy;
mod rule;

use std::rc::Rc;

use postern_config::{ConfigErrors, SecretRef};

use crate::api_key::ApiKeys;
use crate::config::Config;
use crate::gate::{Gate, Parts};
use crate::id::{IssuerId, LimitId, RuleId};
use crate::jwt::Issuers;
use crate::limit::Limit;
use crate::rule::{Rule, Rules};
use crate::secret::{Secret, Secrets};
use crate::signature::Scheme;

/// The shortest accepted secret, in bytes. `postern check` warns below 32.
const MIN_SECRET: usize = 8;

impl Gate {
    /// Compiles a configuration. Secrets are looked up once, here.
    ///
    /// # Errors
    /// Every error of the configuration, each with its path.
    pub fn compile(config: &Config, secrets: &dyn Secrets) -> Result<Self, ConfigErrors> {
        let mut c = Compiler {
            config,
            secrets,
            errors: ConfigErrors::default(),
        };
        let issuers: Named<'_, _> = config
            .issuers
            .iter()
            .enumerate()
            .map(|(i, (name, issuer))| (name.as_str(), c.issuer(IssuerId::new(i), name, issuer)))
            .collect();
        let api_keys = config
            .api_keys
            .iter()
            .map(|(name, keys)| (name.as_str(), Rc::new(c.api_keys(name, keys))))
            .collect();
        let schemes = config
            .signatures
            .iter()
            .map(|(name, scheme)| (name.as_str(), Rc::new(c.signature(name, scheme))))
            .collect();
        let limits = config
            .limits
            .iter()
            .enumerate()
            .map(|(i, (name, limit))| (name.as_str(), c.limit(LimitId::new(i), name, limit).map(Rc::new)))
            .collect();
        let entries = Entries {
            issuers: issuers.iter().map(|(name, issuer)| (*name, issuer.id)).collect(),
            api_keys,
            schemes,
            limits,
        };
        let rules: Vec<Rule> = config
            .rules
            .iter()
            .enumerate()
            .map(|(i, rule)| c.rule(RuleId::new(i), rule, &entries))
            .collect();
        c.check_rule_names();
        let gate = Self::new(Parts {
            issuers: Issuers::new(values(issuers).collect()),
            api_keys: values(entries.api_keys).collect(),
            schemes: values(entries.schemes).collect(),
            limits: values(entries.limits).flatten().collect(),
            rules: Rules::new(rules),
            fallback: config.default,
            reserved: config
                .issuers
                .values()
                .flat_map(|issuer| issuer.headers.keys().cloned())
                .collect(),
            policy_host: config.host.as_ref().map(|host| c.policy_host(host)),
            audit: config.audit.as_ref().map(|audit| c.audit(audit)),
        });
        c.errors.into_result(gate)
    }
}

/// The compiled entries that rules refer to.
struct Entries<'a> {
    issuers: Named<'a, IssuerId>,
    api_keys: Named<'a, Rc<ApiKeys>>,
    schemes: Named<'a, Rc<Scheme>>,
    /// `None` for a limit with errors.
    limits: Named<'a, Option<Rc<Limit>>>,
}

/// Entries by name. A list: a second kind of map, used at configuration alone, costs the filter 30 KB.
type Named<'a, T> = Vec<(&'a str, T)>;

fn values<T>(entries: Named<'_, T>) -> impl Iterator<Item = T> {
    entries.into_iter().map(|(_, value)| value)
}

struct Compiler<'a> {
    config: &'a Config,
    secrets: &'a dyn Secrets,
    errors: ConfigErrors,
}

impl Compiler<'_> {
    fn check_name(&mut self, kind: &str, name: &str) {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
            let message = format!("the name \"{name}\" must be 1 to 64 letters, digits, \"-\" or \"_\"");
            self.errors.add(kind, message);
        }
    }

    /// Rejects empty items: a template with an unset variable produces them.
    fn check_not_empty(&mut self, at: &str, names: &[String]) {
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
            // Only what looks like a variable's name is shown: anything else may be the secret itself.
            let allowed = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
            let name = if reference.env.bytes().all(allowed) {
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
                "is shorter than {MIN_SECRET} bytes, and can be guessed by anyone who has seen one request; use 32 random bytes"
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

/// Splits an `http` or `https` URI into authority and path; `None` for other URIs and those with a fragment.
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
