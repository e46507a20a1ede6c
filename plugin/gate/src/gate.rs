//! The gate: one compiled configuration, and a request's way through its checks.
//!
//! The order: paths and hosts that can be read two ways are refused, a rule is matched, limits by address are counted,
//! the caller is authenticated, authorized and counted, the policy is asked, identity headers are set. What is cheap and
//! needs no callout comes first.

mod audit;
mod authenticate;
mod consult;
mod count;
mod ending;
mod route;

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use authenticate::challenged;
use ending::Refusal;

use crate::Reason;
use crate::api_key::ApiKeys;
use crate::audit::Audit;
use crate::config::Fallback;
use crate::denial::Denial;
use crate::header_name::folded;
use crate::identity::{HEADER_PREFIX, Identity, claim, claim_list, claim_text};
use crate::jwt::{Issuers, KeySetError, Remote};
use crate::limit::{KeyPart, Limit, Limiter};
use crate::policy::{DecisionCache, PolicyHost};
use crate::ports::{Event, Ports, SharedState};
use crate::replay::Nonces;
use crate::request::{Header, Request};
use crate::rule::{Rule, Rules};
use crate::signature::Scheme;
use crate::step::{Pending, Progress, Step, Waiting};
use crate::table;

/// A compiled configuration. Requests borrow it; only fetched keys and remembered tokens change in it.
#[derive(Debug)]
pub struct Gate {
    issuers: Issuers,
    api_keys: Vec<ApiKeys>,
    schemes: Vec<Scheme>,
    limits: Vec<Limit>,
    rules: Rules,
    fallback: Fallback,
    /// Names of configured identity headers, in lower case.
    reserved: BTreeSet<String>,
    /// Who is asked by rules with a policy.
    host: Option<PolicyHost>,
    /// Headers that carry credentials, which no policy sees.
    credentials: BTreeSet<String>,
    /// How the audit log is told, if it is.
    audit: Option<Audit>,
}

/// The tables in the shared state that a gate counts in; none where it counts nothing.
#[derive(Debug)]
pub struct Tables {
    limits: Option<Limiter>,
    nonces: Option<Nonces>,
    policies: Option<DecisionCache>,
}

impl Gate {
    pub(crate) fn new(
        issuers: Issuers,
        api_keys: Vec<ApiKeys>,
        schemes: Vec<Scheme>,
        limits: Vec<Limit>,
        rules: Rules,
        fallback: Fallback,
        reserved: BTreeSet<String>,
    ) -> Self {
        let reserved = reserved
            .into_iter()
            .map(|name| folded(name.as_bytes()).into_owned())
            .collect();
        Self {
            issuers,
            api_keys,
            schemes,
            limits,
            rules,
            fallback,
            reserved,
            host: None,
            credentials: BTreeSet::new(),
            audit: None,
        }
    }

    /// Opens the tables this gate counts in, making those that the shared state does not hold yet. To be called where
    /// no other worker uses them yet; `random` keys the hash of a new table.
    pub fn open_tables(&self, state: &dyn SharedState, random: [u8; 16]) -> Tables {
        let seed = |wanted: bool| wanted.then(|| table::seed(state, random)).flatten();
        Tables {
            limits: seed(!self.limits.is_empty()).map(|seed| Limiter::new(&self.limits, seed)),
            nonces: seed(self.schemes.iter().any(Scheme::remembers)).map(Nonces::new),
            policies: self.recalls().then(|| DecisionCache::open(state, random)),
        }
    }

    /// The rules' names, in order: what an [`Event`]'s index refers to.
    pub fn rule_names(&self) -> impl Iterator<Item = &str> {
        self.rules.list().iter().map(|rule| rule.name.as_str())
    }

    pub(crate) fn rule_list(&self) -> &[Rule] {
        self.rules.list()
    }

    /// Whether a limit counts by the client's address: only then need [`Request::source`] be found out.
    #[must_use]
    pub fn needs_source(&self) -> bool {
        self.limits
            .iter()
            .any(|limit| limit.key.contains(&KeyPart::Address))
    }

    /// The issuers whose keys are to be fetched, by index.
    pub fn remotes(&self) -> impl Iterator<Item = (usize, &Remote)> {
        self.issuers
            .list()
            .iter()
            .enumerate()
            .filter_map(|(i, issuer)| Some((i, issuer.remote.as_ref()?)))
    }

    /// The index of the issuer called `name` in the configuration.
    #[must_use]
    pub fn issuer_index(&self, name: &str) -> Option<usize> {
        self.issuers
            .list()
            .iter()
            .position(|issuer| issuer.label.strip_prefix("issuers/") == Some(name))
    }

    /// Takes a fetched key set of an issuer into use. `fetched` is when, on the shared monotonic clock. Returns what is
    /// worth a word to operators: signature keys that are passed over, and why.
    ///
    /// # Errors
    /// [`KeySetError`] if the document is no key set or holds no usable key; the keys held stay in use.
    pub fn install_keys(
        &self,
        issuer: usize,
        jwks: &[u8],
        fetched: Duration,
    ) -> Result<Vec<String>, KeySetError> {
        self.issuers.install(issuer, jwks, fetched)
    }

    /// Begins a request.
    pub fn begin(&self, request: &Request<'_>, tables: &Tables, ports: &Ports<'_>) -> Step {
        let (index, rule) = match self.route(request) {
            Ok(Some(found)) => found,
            Ok(None) => return self.unmatched(request, ports),
            Err(reason) => return self.deny(None, Denial::new(reason), Progress::default(), ports),
        };
        ports.metrics.note(&Event::Matched { rule: index });
        let mut progress = Progress {
            strip: self.reserved_among(request.headers),
            ..Progress::default()
        };
        let early = self.count(&rule.early_limits, request, None, &mut progress, tables, ports);
        if let Err(refusal) = early {
            return self.deny(Some((index, rule)), refusal.0, progress, ports);
        }
        self.authenticated_by(index, rule, request, false, progress, tables, ports)
    }

    /// Goes on with a request that got what it needed: its whole body through [`Pending::body`], or keys through
    /// [`install_keys`](Self::install_keys), or no keys, in which case it is refused. `request` is the same as before.
    pub fn resume(
        &self,
        pending: Pending,
        request: &Request<'_>,
        tables: &Tables,
        ports: &Ports<'_>,
    ) -> Step {
        let Pending {
            rule: index,
            mut progress,
            waiting,
        } = pending;
        let Some(rule) = self.rules.get(index) else {
            return self.deny(None, Denial::new(Reason::GateFailed), progress, ports);
        };
        match waiting {
            Waiting::Keys { again } => {
                self.authenticated_by(index, rule, request, !again, progress, tables, ports)
            }
            Waiting::Shown { received, .. } => {
                progress.body = Some(received);
                self.admitted(index, rule, request, progress, ports)
            }
            // Nothing was asked, so that nothing was answered.
            Waiting::Policy | Waiting::Audit { .. } => self.deny(
                Some((index, rule)),
                Denial::new(Reason::GateFailed),
                progress,
                ports,
            ),
            Waiting::Body { scheme, signature } => {
                progress.body = Some(signature.received());
                let verified = self
                    .schemes
                    .get(scheme)
                    .ok_or(Reason::GateFailed)
                    .and_then(|scheme| scheme.finish(*signature, tables.nonces.as_ref(), ports))
                    .map_err(|reason| challenged(rule, reason));
                match verified {
                    Ok(identity) => self.admit(index, rule, request, Some(identity), progress, tables, ports),
                    Err(refusal) => self.deny(Some((index, rule)), refusal.0, progress, ports),
                }
            }
        }
    }

    /// Refuses a waiting request outright: its body was too large, or could not be read.
    pub fn refuse(&self, pending: Pending, denial: Denial, ports: &Ports<'_>) -> Denial {
        let rule = self.rules.get(pending.rule).map(|rule| (pending.rule, rule));
        self.refusal(rule, denial, pending.progress, ports)
    }

    /// Authorizes and counts an authenticated request.
    #[expect(
        clippy::too_many_arguments,
        reason = "one request's state, passed on rather than stored"
    )]
    fn admit(
        &self,
        index: usize,
        rule: &Rule,
        request: &Request<'_>,
        identity: Option<Rc<Identity>>,
        mut progress: Progress,
        tables: &Tables,
        ports: &Ports<'_>,
    ) -> Step {
        progress.caller.clone_from(&identity);
        let decided = authorize(rule, identity.as_deref(), ports)
            .map_err(Refusal::from)
            .and_then(|()| {
                self.count(
                    &rule.limits,
                    request,
                    identity.as_deref(),
                    &mut progress,
                    tables,
                    ports,
                )
            });
        if let Err(refusal) = decided {
            return self.deny(Some((index, rule)), refusal.0, progress, ports);
        }
        self.admitted(index, rule, request, progress, ports)
    }

    /// Goes on with a request that passed all checks of the gate itself.
    fn admitted(
        &self,
        index: usize,
        rule: &Rule,
        request: &Request<'_>,
        progress: Progress,
        ports: &Ports<'_>,
    ) -> Step {
        match &rule.policy {
            None => self.pass(index, progress, None, ports),
            Some(policy) => self.put_to(policy, index, rule, request, progress, ports),
        }
    }

    /// The identity headers among those that the client sent, or trailers, in every spelling that an upstream may take for
    /// one of them.
    #[must_use]
    pub fn reserved_among(&self, headers: &[Header<'_>]) -> Vec<String> {
        let reserved = |name: &[u8]| {
            let name = folded(name);
            name.starts_with(HEADER_PREFIX) || (!self.reserved.is_empty() && self.reserved.contains(&*name))
        };
        let names = headers.iter().filter(|(name, _)| reserved(name));
        names
            .filter_map(|(name, _)| std::str::from_utf8(name).ok().map(str::to_owned))
            .collect()
    }
}

fn authorize(rule: &Rule, identity: Option<&Identity>, ports: &Ports<'_>) -> Result<(), Reason> {
    if rule.roles.is_empty() && rule.claims.is_empty() {
        return Ok(());
    }
    let identity = identity.ok_or(Reason::GateFailed)?;
    if !rule.roles.is_empty() && !identity.has_any_role(&rule.roles) {
        return Err(Reason::RoleMissing);
    }
    let holds = |path: &str, wanted: &str| {
        claim(&identity.claims, path).is_some_and(|value| {
            claim_text(value).as_deref() == Some(wanted)
                || claim_list(value).iter().any(|item| item == wanted)
        })
    };
    if !rule.claims.iter().all(|(path, wanted)| holds(path, wanted)) {
        return Err(Reason::ClaimMismatch);
    }
    ports.metrics.note(&Event::Authorized);
    Ok(())
}

#[cfg(test)]
mod tests;
