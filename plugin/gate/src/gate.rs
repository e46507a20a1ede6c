//! The gate: a compiled configuration. The request's way through it is in `stages`.

use std::rc::Rc;
use std::time::Duration;

use crate::api_key::ApiKeys;
use crate::audit::Audit;
use crate::config::Fallback;
use crate::header_name::fold;
use crate::id::{IssuerId, RuleId};
use crate::identity::HEADER_PREFIX;
use crate::jwt::{Issuers, KeySetError, Remote};
use crate::limit::{KeyPart, Limit, Limiter};
use crate::policy::{DecisionCache, PolicyHost};
use crate::ports::SharedState;
use crate::replay::NonceStore;
use crate::request::Header;
use crate::rule::{Rule, Rules};
use crate::signature::Scheme;
use crate::table;

/// A compiled configuration. Requests borrow it; only fetched keys and the cache of tokens change in it.
#[derive(Debug)]
pub struct Gate {
    parts: Parts,
    /// Names of headers that carry credentials, which no policy is sent.
    credentials: Vec<String>,
}

/// What a configuration compiles to.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) issuers: Issuers,
    pub(crate) api_keys: Vec<Rc<ApiKeys>>,
    pub(crate) schemes: Vec<Rc<Scheme>>,
    pub(crate) limits: Vec<Rc<Limit>>,
    pub(crate) rules: Rules,
    pub(crate) fallback: Fallback,
    /// Names of the configured identity headers.
    pub(crate) reserved: Vec<String>,
    pub(crate) policy_host: Option<PolicyHost>,
    pub(crate) audit: Option<Audit>,
}

/// The tables in the shared state that a gate uses; `None` where its configuration needs none.
#[derive(Debug)]
pub struct Tables {
    pub(crate) limits: Option<Limiter>,
    pub(crate) nonces: Option<NonceStore>,
    pub(crate) policies: Option<DecisionCache>,
}

impl Gate {
    pub(crate) fn new(parts: Parts) -> Self {
        let keys = parts.api_keys.iter().map(|set| set.header.clone());
        let signatures = parts.schemes.iter().flat_map(|scheme| scheme.headers());
        let credentials = keys.chain(signatures.map(str::to_owned)).collect();
        let reserved = parts
            .reserved
            .iter()
            .map(|name| fold(name.as_bytes()).into_owned())
            .collect();
        Self {
            credentials,
            parts: Parts { reserved, ..parts },
        }
    }

    /// Opens the tables that this gate uses, and creates those that the shared state does not have yet. Call it
    /// before any other worker uses them; `random` seeds the hash of a new table.
    pub fn open_tables(&self, state: &dyn SharedState, random: [u8; 16]) -> Tables {
        let Parts {
            limits,
            schemes,
            rules,
            ..
        } = &self.parts;
        let seed = |wanted: bool| wanted.then(|| table::seed(state, random)).flatten();
        let caches = |rule: &Rc<Rule>| rule.policy.as_ref().is_some_and(|policy| policy.cached);
        Tables {
            limits: seed(!limits.is_empty()).map(|seed| Limiter::new(limits, seed)),
            nonces: seed(schemes.iter().any(|scheme| scheme.refuses_replays())).map(NonceStore::new),
            policies: rules
                .list()
                .iter()
                .any(caches)
                .then(|| DecisionCache::open(state, random)),
        }
    }

    /// The rules' names, by [`RuleId`].
    pub fn rule_names(&self) -> impl Iterator<Item = &str> {
        self.rules().iter().map(|rule| rule.name.as_str())
    }

    /// Whether a limit counts by the client's address: only then is [`Request::source`](crate::Request::source)
    /// needed.
    #[must_use]
    pub fn needs_source(&self) -> bool {
        let mut limits = self.parts.limits.iter();
        limits.any(|limit| limit.key.contains(&KeyPart::Address))
    }

    /// The issuers whose keys are fetched.
    pub fn remotes(&self) -> impl Iterator<Item = (IssuerId, &Remote)> {
        let issuers = self.issuers().list().iter();
        issuers.filter_map(|issuer| Some((issuer.id, issuer.remote.as_ref()?)))
    }

    /// The issuer of this name in the configuration.
    #[must_use]
    pub fn issuer(&self, name: &str) -> Option<IssuerId> {
        let mut issuers = self.issuers().list().iter();
        let named = issuers.find(|issuer| issuer.label.strip_prefix("issuers/") == Some(name));
        named.map(|issuer| issuer.id)
    }

    /// Puts an issuer's fetched key set into use. `fetched` is the time of the fetch on the shared monotonic clock.
    /// Returns warnings for operators: keys for signatures that are skipped, and why.
    ///
    /// # Errors
    /// [`KeySetError`] if the document is not a key set or has no usable key; the previous keys stay in use.
    pub fn install_keys(
        &self,
        issuer: IssuerId,
        jwks: &[u8],
        fetched: Duration,
    ) -> Result<Vec<String>, KeySetError> {
        self.issuers().install(issuer, jwks, fetched)
    }

    /// The policy host, if one is configured.
    #[must_use]
    pub fn policy_host(&self) -> Option<&PolicyHost> {
        self.parts.policy_host.as_ref()
    }

    /// The audit settings, if decisions are recorded.
    #[must_use]
    pub fn audit(&self) -> Option<&Audit> {
        self.parts.audit.as_ref()
    }

    /// The identity headers among these headers or trailers of a client, in every spelling that an upstream may take
    /// for one of them.
    #[must_use]
    pub fn reserved_among(&self, headers: &[Header<'_>]) -> Vec<String> {
        let configured = &self.parts.reserved;
        let reserved = |name: &[u8]| {
            let name = fold(name);
            name.starts_with(HEADER_PREFIX) || configured.iter().any(|configured| *configured == *name)
        };
        let names = headers.iter().filter(|(name, _)| reserved(name));
        names
            .filter_map(|(name, _)| std::str::from_utf8(name).ok().map(str::to_owned))
            .collect()
    }

    pub(crate) fn rules(&self) -> &[Rc<Rule>] {
        self.parts.rules.list()
    }

    pub(crate) fn rule(&self, id: RuleId) -> Option<&Rule> {
        self.parts.rules.get(id)
    }

    pub(crate) fn find_rule(&self, method: &[u8], host: &str, path: &str) -> Option<&Rc<Rule>> {
        self.parts.rules.find(method, host, path)
    }

    pub(crate) fn fallback(&self) -> Fallback {
        self.parts.fallback
    }

    pub(crate) fn issuers(&self) -> &Issuers {
        &self.parts.issuers
    }

    /// Whether any credential is a bearer token.
    pub(crate) fn reads_tokens(&self) -> bool {
        !self.issuers().list().is_empty()
    }

    pub(crate) fn credential_headers(&self) -> &[String] {
        &self.credentials
    }
}
