//! The gate: one compiled configuration, and a request's way through its checks.
//!
//! The order: paths and hosts that can be read two ways are refused, a rule is matched, limits by address are counted,
//! the caller is authenticated, authorized and counted, the policy is asked, identity headers are set. What is cheap and
//! needs no callout comes first.

mod consult;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use crate::Reason;
use crate::api_key::ApiKeys;
use crate::config::Fallback;
use crate::denial::Denial;
use crate::identity::{HEADER_PREFIX, Identity, Method, claim, claim_list, claim_text};
use crate::jwt::{Issuers, KeySetError, Outcome, Remote};
use crate::limit::{KeyPart, Limit, Limiter, Verdict};
use crate::path::normalise;
use crate::policy::{Allowance, Memory, PolicyHost};
use crate::ports::{Event, Ports, SharedState};
use crate::request::{Header, Request, Single, address_key};
use crate::rule::{Rule, Rules, WayIn};
use crate::signature::Scheme;
use crate::step::{Effects, Need, Pending, Progress, Step, Waiting};

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
}

/// The tables in the shared state that a gate counts in, four megabytes each; none where it counts nothing.
#[derive(Debug)]
pub struct Tables {
    limits: Option<Limiter>,
    replays: Option<Limiter>,
    policies: Option<Memory>,
}

/// A refusal on its way out: the reason, or a whole denial where headers go with it.
struct Refusal(Denial);

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self(Denial::new(reason))
    }
}

/// What authenticating comes to.
enum Auth {
    Caller(Option<Rc<Identity>>),
    Need(Need, Waiting),
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
            .map(|name| name.to_ascii_lowercase().replace('_', "-"))
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
        }
    }

    /// Opens the tables this gate counts in, making those that the shared state does not hold yet. To be called where
    /// no other worker uses them yet; `random` keys the hash of a new table.
    pub fn open_tables(&self, state: &dyn SharedState, random: [u8; 16]) -> Tables {
        let open = |wanted: bool, name| wanted.then(|| Limiter::open(name, state, random));
        Tables {
            limits: open(!self.limits.is_empty(), "postern.limits"),
            replays: open(self.schemes.iter().any(Scheme::remembers), "postern.replays"),
            policies: self.recalls().then(|| Memory::open(state, random)),
        }
    }

    /// The rules' names, in order: what an [`Event`]'s index refers to.
    pub fn rule_names(&self) -> impl Iterator<Item = &str> {
        self.rules.list().iter().map(|rule| rule.name.as_str())
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

    /// Takes a fetched key set of an issuer into use. `fetched` is when, on the shared monotonic clock.
    ///
    /// # Errors
    /// [`KeySetError`] if the document is no key set or holds no usable key; the keys held stay in use.
    pub fn install_keys(&self, issuer: usize, jwks: &[u8], fetched: Duration) -> Result<(), KeySetError> {
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
            Waiting::Keys => self.authenticated_by(index, rule, request, true, progress, tables, ports),
            Waiting::Shown {
                identity, received, ..
            } => {
                progress.body = Some(received);
                self.admitted(index, rule, request, identity, progress, ports)
            }
            // Nothing was asked, so that nothing was answered.
            Waiting::Policy { .. } => self.deny(
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
                    .and_then(|scheme| scheme.finish(*signature, tables.replays.as_ref(), ports))
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

    fn route(&self, request: &Request<'_>) -> Result<Option<(usize, &Rule)>, Reason> {
        let path = normalise(request.path()).map_err(|_| Reason::PathAmbiguous)?;
        // A proxy may show two `Host` fields as one, joined by a comma, which no host name holds.
        let authority = match request.single(":authority") {
            Single::Absent => &[][..],
            Single::One(authority) if !authority.contains(&b',') => authority,
            Single::One(_) | Single::Several => return Err(Reason::HostAmbiguous),
        };
        if request.first("host").is_some() {
            return Err(Reason::HostAmbiguous);
        }
        let host = if self.rules.needs_host() {
            host_of(authority)?
        } else {
            String::new()
        };
        Ok(self.rules.find(request.method(), &host, &path))
    }

    fn unmatched(&self, request: &Request<'_>, ports: &Ports<'_>) -> Step {
        match self.fallback {
            Fallback::Deny => self.deny(None, Denial::new(Reason::NoRule), Progress::default(), ports),
            Fallback::Allow => {
                ports.metrics.note(&Event::Admitted { rule: None });
                Step::Continue(Effects {
                    strip: self.reserved_among(request.headers),
                    ..Effects::default()
                })
            }
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one request's state, passed on rather than stored"
    )]
    fn authenticated_by(
        &self,
        index: usize,
        rule: &Rule,
        request: &Request<'_>,
        fetched: bool,
        progress: Progress,
        tables: &Tables,
        ports: &Ports<'_>,
    ) -> Step {
        match self.authenticate(rule, request, fetched, tables, ports) {
            Ok(Auth::Caller(identity)) => self.admit(index, rule, request, identity, progress, tables, ports),
            Ok(Auth::Need(need, waiting)) => Step::Need(
                need,
                Pending {
                    rule: index,
                    progress,
                    waiting,
                },
            ),
            Err(reason) => self.deny(Some((index, rule)), challenged(rule, reason).0, progress, ports),
        }
    }

    /// The first way in whose credential the request carries decides; another credential cannot mend a wrong one.
    fn authenticate(
        &self,
        rule: &Rule,
        request: &Request<'_>,
        fetched: bool,
        tables: &Tables,
        ports: &Ports<'_>,
    ) -> Result<Auth, Reason> {
        if rule.authenticate.is_empty() {
            return Ok(Auth::Caller(None));
        }
        for way in &rule.authenticate {
            let outcome = match way {
                WayIn::Token => self.by_token(rule, request, fetched, ports)?,
                WayIn::ApiKey(index) => self.by_api_key(*index, request, ports)?,
                WayIn::Signature(index) => self.by_signature(*index, request, tables, ports)?,
            };
            if let Some(auth) = outcome {
                return Ok(auth);
            }
        }
        Err(Reason::CredentialsMissing)
    }

    fn by_token(
        &self,
        rule: &Rule,
        request: &Request<'_>,
        fetched: bool,
        ports: &Ports<'_>,
    ) -> Result<Option<Auth>, Reason> {
        let Some(token) = bearer(request)? else {
            return Ok(None);
        };
        match self.issuers.verify(token, &rule.issuers, fetched, ports) {
            Outcome::Verified(identity) => Ok(Some(Auth::Caller(Some(identity)))),
            Outcome::NeedKeys(issuer) => Ok(Some(Auth::Need(Need::Keys { issuer }, Waiting::Keys))),
            Outcome::Refused(reason) => Err(reason),
        }
    }

    fn by_api_key(
        &self,
        index: usize,
        request: &Request<'_>,
        ports: &Ports<'_>,
    ) -> Result<Option<Auth>, Reason> {
        let set = self.api_keys.get(index).ok_or(Reason::GateFailed)?;
        let Some(identity) = set.verify(request, || ports.clock.wall()).transpose()? else {
            return Ok(None);
        };
        ports.authenticated(&set.label, &identity);
        Ok(Some(Auth::Caller(Some(identity))))
    }

    fn by_signature(
        &self,
        index: usize,
        request: &Request<'_>,
        tables: &Tables,
        ports: &Ports<'_>,
    ) -> Result<Option<Auth>, Reason> {
        let scheme = self.schemes.get(index).ok_or(Reason::GateFailed)?;
        let Some(signature) = scheme.begin(request, ports).transpose()? else {
            return Ok(None);
        };
        if request.end_of_stream {
            let identity = scheme.finish(signature, tables.replays.as_ref(), ports)?;
            return Ok(Some(Auth::Caller(Some(identity))));
        }
        let need = Need::Body {
            max: signature.max_body(),
        };
        Ok(Some(Auth::Need(
            need,
            Waiting::Body {
                scheme: index,
                signature: Box::new(signature),
            },
        )))
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
        self.admitted(index, rule, request, identity, progress, ports)
    }

    /// Goes on with a request that passed all checks of the gate itself.
    fn admitted(
        &self,
        index: usize,
        rule: &Rule,
        request: &Request<'_>,
        identity: Option<Rc<Identity>>,
        progress: Progress,
        ports: &Ports<'_>,
    ) -> Step {
        match &rule.policy {
            None => pass(index, identity, progress, None, ports),
            Some(policy) => self.put_to(policy, index, rule, request, identity, progress, ports),
        }
    }

    fn count(
        &self,
        limits: &[usize],
        request: &Request<'_>,
        identity: Option<&Identity>,
        progress: &mut Progress,
        tables: &Tables,
        ports: &Ports<'_>,
    ) -> Result<(), Refusal> {
        for limit in limits.iter().filter_map(|index| self.limits.get(*index)) {
            let parts = limit.key.iter().map(|part| key_part(part, request, identity));
            let verdict = tables
                .limits
                .as_ref()
                .map_or(Verdict::Unavailable, |limits| limits.check(limit, parts, ports));
            let report = limit.report(&verdict);
            ports.metrics.note(&Event::Limited { report: &report });
            match verdict {
                Verdict::Unavailable => return Err(Reason::LimitUnavailable.into()),
                Verdict::Admitted { .. } | Verdict::Exceeded { .. } => {
                    progress.policy = Some(match progress.policy.take() {
                        None => Rc::clone(limit.policy()),
                        Some(before) => format!("{before}, {}", limit.policy()).into(),
                    });
                    report.append_state(&mut progress.state);
                }
            }
            if !report.admitted {
                let denial =
                    Denial::new(Reason::LimitExceeded).header("retry-after", report.reset.to_string());
                return Err(Refusal(denial));
            }
        }
        Ok(())
    }

    /// The identity headers among those that the client sent, or trailers, whatever their spelling: to a CGI-like upstream `_` and `-` are one.
    #[must_use]
    pub fn reserved_among(&self, headers: &[Header<'_>]) -> Vec<String> {
        let reserved = |name: &[u8]| {
            if !name.contains(&b'_') {
                return name.starts_with(HEADER_PREFIX.as_bytes())
                    || (!self.reserved.is_empty()
                        && std::str::from_utf8(name).is_ok_and(|name| self.reserved.contains(name)));
            }
            let name = String::from_utf8_lossy(name).replace('_', "-");
            name.starts_with(HEADER_PREFIX) || self.reserved.contains(&name)
        };
        let names = headers.iter().filter(|(name, _)| reserved(name));
        names
            .filter_map(|(name, _)| std::str::from_utf8(name).ok().map(str::to_owned))
            .collect()
    }

    fn deny(
        &self,
        rule: Option<(usize, &Rule)>,
        denial: Denial,
        progress: Progress,
        ports: &Ports<'_>,
    ) -> Step {
        Step::Deny(self.refusal(rule, denial, progress, ports))
    }

    /// Completes a refusal with what was settled before it, and notes it.
    fn refusal(
        &self,
        rule: Option<(usize, &Rule)>,
        mut denial: Denial,
        progress: Progress,
        ports: &Ports<'_>,
    ) -> Denial {
        ports.metrics.note(&Event::Refused {
            rule: rule.map(|(index, _)| index),
            reason: denial.reason,
        });
        denial.rule = rule.map(|(_, rule)| rule.name.clone());
        denial
            .headers
            .extend(progress.policy.map(|policy| ("ratelimit-policy", policy)));
        denial
            .headers
            .extend(rate_limit_state(progress.state).map(|(name, state)| (name, state.into())));
        if denial.status() == 503 && denial.reply.is_none() {
            denial.headers.push(("retry-after", "1".into()));
        }
        denial
    }
}

/// The end of a request's way through the gate.
fn pass(
    index: usize,
    identity: Option<Rc<Identity>>,
    progress: Progress,
    policy: Option<Box<Allowance>>,
    ports: &Ports<'_>,
) -> Step {
    ports.metrics.note(&Event::Admitted { rule: Some(index) });
    Step::Continue(Effects {
        strip: progress.strip,
        identity,
        response: rate_limit_state(progress.state).into_iter().collect(),
        policy,
    })
}

/// A 401 names the ways in (RFC 9110, section 15.5.2).
fn challenged(rule: &Rule, reason: Reason) -> Refusal {
    let denial = Denial::new(reason);
    Refusal(match reason.status() {
        401 if reason == Reason::CredentialsMissing => {
            denial.header("www-authenticate", rule.challenge.missing.as_str())
        }
        401 => denial.header("www-authenticate", rule.challenge.invalid.as_str()),
        _ => denial,
    })
}

/// What is left and when there is more, on every response. The policy goes with refusals alone: it never changes, the
/// draft leaves its frequency to the server, and a second header on each response costs 2 % of the proxy's time.
fn rate_limit_state(state: String) -> Option<(&'static str, String)> {
    (!state.is_empty()).then_some(("ratelimit", state))
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

/// One part of a limit's key. A part that the request has not counts as one more value: all such share a count.
fn key_part<'a>(part: &KeyPart, request: &Request<'a>, identity: Option<&'a Identity>) -> Cow<'a, [u8]> {
    let subject = |identity: &'a Identity| Cow::Borrowed(identity.key.as_bytes());
    match part {
        KeyPart::Subject => identity.map(subject).unwrap_or_default(),
        KeyPart::ApiKey => identity
            .filter(|i| i.method != Method::Jwt)
            .map(subject)
            .unwrap_or_default(),
        KeyPart::Address => request
            .source
            .map(|s| Cow::Owned(address_key(s).into_bytes()))
            .unwrap_or_default(),
        KeyPart::Header(name) => match request.single(name) {
            Single::Absent => Cow::default(),
            Single::One(value) => Cow::Borrowed(value),
            Single::Several => Cow::Owned(request.values(name).collect::<Vec<_>>().join(&b"\n"[..])),
        },
    }
}

/// The bearer token (RFC 6750, section 2.1). Two `Authorization` headers, or one that holds two values because a proxy
/// joined them, are refused.
fn bearer<'a>(request: &Request<'a>) -> Result<Option<&'a str>, Reason> {
    let value = match request.single("authorization") {
        Single::Absent => return Ok(None),
        Single::Several => return Err(Reason::CredentialsAmbiguous),
        Single::One(value) => value,
    };
    let Some((scheme, token)) = value.split_at_checked(7) else {
        return Ok(None);
    };
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return Ok(None);
    }
    if token.contains(&b',') {
        return Err(Reason::CredentialsAmbiguous);
    }
    let token = std::str::from_utf8(token).map_err(|_| Reason::TokenMalformed)?;
    Ok(Some(token.trim_matches(' ')))
}

/// A host without its port, in lower case.
fn host_of(authority: &[u8]) -> Result<String, Reason> {
    let authority = std::str::from_utf8(authority).map_err(|_| Reason::HostAmbiguous)?;
    if authority.contains('@') {
        return Err(Reason::HostAmbiguous);
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    Ok(host.trim_end_matches('.').to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
