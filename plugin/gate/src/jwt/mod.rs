//! JSON Web Tokens: the algorithm pinned by issuer and key, every claim checked, verified tokens remembered.

mod cache;
mod key;
mod keyset;
mod schedule;
mod token;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::Reason;
use crate::config::{Algorithm, Expiry, IdentityHeader};
use crate::identity::{Identity, Method, claim_header, claim_list, claim_text};
use crate::ports::{Event, Ports};

pub use key::VerifyingKey;
pub use keyset::KeySetError;
pub use schedule::{FetchRecord, Schedule};
pub use token::split_token;

use cache::TokenCache;
pub(crate) use keyset::KeySet;
use token::{Unverified, Validity};

/// Tokens remembered by one worker, in each of two generations.
const REMEMBERED: usize = 2_000;

/// Longer tokens are verified each time rather than remembered, so that the memory stays small.
const REMEMBERED_LENGTH: usize = 4 * 1024;

/// A token that verified.
#[derive(Debug)]
pub(crate) struct Verified {
    issuer: usize,
    validity: Validity,
    identity: Rc<Identity>,
}

/// An issuer, compiled.
#[derive(Debug)]
pub(crate) struct Issuer {
    /// `issuers/<name>`.
    pub(crate) label: String,
    pub(crate) issuer: String,
    pub(crate) audiences: Vec<String>,
    pub(crate) algorithms: Vec<Algorithm>,
    pub(crate) leeway: Duration,
    pub(crate) expiry: Expiry,
    pub(crate) subject_claim: String,
    pub(crate) roles_claim: String,
    pub(crate) tenant_claim: Option<String>,
    pub(crate) default_tenant: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) told: Vec<IdentityHeader>,
    /// Where the keys come from, unless they stand in the configuration.
    pub(crate) remote: Option<Remote>,
    pub(crate) keys: RefCell<Held>,
}

/// Where an issuer's keys are fetched.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The issuer's name in the configuration.
    pub name: String,
    /// The algorithms its keys must serve, joined, in the order of their names.
    pub algorithms: String,
    /// The key set's URI.
    pub uri: String,
    /// The proxy's cluster for it.
    pub cluster: String,
    /// When it is fetched.
    pub schedule: Schedule,
}

/// The keys that are held, and since when, on the shared monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct Held {
    pub(crate) set: Option<KeySet>,
    pub(crate) fetched: Duration,
}

/// What authenticating by a token comes to.
pub(crate) enum Outcome {
    Verified(Rc<Identity>),
    Refused(Reason),
    /// Keys of this issuer, by index, must be fetched first.
    NeedKeys(usize),
}

/// All issuers and the tokens remembered of them.
#[derive(Debug)]
pub(crate) struct Issuers {
    list: Vec<Issuer>,
    memory: RefCell<TokenCache>,
}

impl Issuers {
    pub(crate) fn new(list: Vec<Issuer>) -> Self {
        Self {
            list,
            memory: RefCell::new(TokenCache::new(REMEMBERED)),
        }
    }

    pub(crate) fn list(&self) -> &[Issuer] {
        &self.list
    }

    /// Takes a fetched key set into use and forgets what older keys verified.
    /// Returns what is worth a word to operators: keys that are passed over.
    pub(crate) fn install(
        &self,
        issuer: usize,
        jwks: &[u8],
        fetched: Duration,
    ) -> Result<Vec<String>, KeySetError> {
        let Some(issuer) = self.list.get(issuer) else {
            return Ok(Vec::new());
        };
        let set = KeySet::from_json(jwks, &issuer.algorithms)?;
        let passed_over = set.passed_over().to_vec();
        *issuer.keys.borrow_mut() = Held {
            set: Some(set),
            fetched,
        };
        self.memory.borrow_mut().clear();
        Ok(passed_over)
    }

    /// Verifies `token`, which must be of one of the `accepted` issuers (indices). With `fetched`, keys were fetched
    /// for this request already and are not asked for again.
    pub(crate) fn verify(
        &self,
        token: &str,
        accepted: &[usize],
        fetched: bool,
        ports: &Ports<'_>,
    ) -> Outcome {
        match self.try_verify(token, accepted, fetched, ports) {
            Ok(identity) => Outcome::Verified(identity),
            Err(VerifyError::Refuse(reason)) => Outcome::Refused(reason),
            Err(VerifyError::NeedKeys(issuer)) => Outcome::NeedKeys(issuer),
        }
    }

    fn try_verify(
        &self,
        token: &str,
        accepted: &[usize],
        fetched: bool,
        ports: &Ports<'_>,
    ) -> Result<Rc<Identity>, VerifyError> {
        let now = ports.clock.wall();
        let fingerprint = (token.len() <= REMEMBERED_LENGTH).then(|| Sha256::digest(token.as_bytes()).into());
        if let Some(fingerprint) = &fingerprint {
            let known = self.memory.borrow_mut().get(fingerprint);
            if let Some(known) = known.filter(|known| accepted.contains(&known.issuer)) {
                return self.recall(&known, fingerprint, now, fetched, ports);
            }
        }
        let unverified = Unverified::read(token)?;
        let (index, issuer) = self.issuer_of(&unverified, accepted)?;
        let validity = issuer.judge(&unverified, now)?;
        let identity = issuer.verify_with_keys(index, token, unverified, fetched, ports)?;
        let identity = Rc::new(identity);
        ports.authenticated(&issuer.label, &identity);
        if let Some(fingerprint) = fingerprint {
            let verified = Verified {
                issuer: index,
                validity,
                identity: Rc::clone(&identity),
            };
            self.memory.borrow_mut().put(fingerprint, Rc::new(verified));
        }
        Ok(identity)
    }

    /// A token seen before: only time can have changed what it is worth, the token's own or its keys'.
    fn recall(
        &self,
        known: &Verified,
        fingerprint: &cache::Fingerprint,
        now: Duration,
        fetched: bool,
        ports: &Ports<'_>,
    ) -> Result<Rc<Identity>, VerifyError> {
        let issuer = self.list.get(known.issuer).ok_or(Reason::GateFailed)?;
        if !issuer.keys_usable(ports) {
            return Err(VerifyError::need_keys(known.issuer, fetched));
        }
        if let Err(reason) = known.validity.check(now, issuer.leeway) {
            self.memory.borrow_mut().forget(fingerprint);
            return Err(VerifyError::Refuse(reason));
        }
        ports.authenticated(&issuer.label, &known.identity);
        Ok(Rc::clone(&known.identity))
    }

    /// The accepted issuer that the token names. What it names is unverified, and only picks whose keys judge it.
    fn issuer_of(&self, token: &Unverified, accepted: &[usize]) -> Result<(usize, &Issuer), Reason> {
        let named = token.issuer().ok_or(Reason::TokenIssuer)?;
        accepted
            .iter()
            .filter_map(|index| self.list.get(*index).map(|issuer| (*index, issuer)))
            .find(|(_, issuer)| issuer.issuer == named)
            .ok_or(Reason::TokenIssuer)
    }
}

enum VerifyError {
    Refuse(Reason),
    NeedKeys(usize),
}

impl VerifyError {
    /// Keys are asked for once a request; when that brought none, the request cannot be decided.
    fn need_keys(issuer: usize, fetched: bool) -> Self {
        if fetched {
            Self::Refuse(Reason::KeysUnavailable)
        } else {
            Self::NeedKeys(issuer)
        }
    }
}

impl From<Reason> for VerifyError {
    fn from(reason: Reason) -> Self {
        Self::Refuse(reason)
    }
}

impl Issuer {
    /// Everything that can be judged without a key; cheap, so it comes before the signature. Nothing in the token is
    /// believed yet, it can only be refused.
    fn judge(&self, token: &Unverified, now: Duration) -> Result<Validity, Reason> {
        if !token.names_audience(&self.audiences) {
            return Err(Reason::TokenAudience);
        }
        let validity = Validity::read(&token.claims, self.expiry)?;
        validity.check(now, self.leeway)?;
        Ok(validity)
    }

    /// The signature; then, and only then, the identity.
    fn verify_with_keys(
        &self,
        index: usize,
        token: &str,
        unverified: Unverified,
        fetched: bool,
        ports: &Ports<'_>,
    ) -> Result<Identity, VerifyError> {
        let algorithm = self
            .algorithms
            .iter()
            .find(|algorithm| algorithm.name() == unverified.algorithm)
            .ok_or(Reason::TokenAlgorithm)?;
        if !self.keys_usable(ports) {
            return Err(VerifyError::need_keys(index, fetched));
        }
        let held = self.keys.borrow();
        let set = held.set.as_ref().ok_or(Reason::KeysUnavailable)?;
        let keys = set.candidates(*algorithm, unverified.kid.as_deref());
        if keys.is_empty() {
            let may_fetch = self.remote.is_some() && !fetched && unverified.kid.is_some();
            return Err(if may_fetch {
                VerifyError::NeedKeys(index)
            } else {
                Reason::TokenKeyUnknown.into()
            });
        }
        if !keys.iter().any(|key| ports.verifier.verify(key, token).is_ok()) {
            return Err(Reason::TokenSignature.into());
        }
        Ok(self.identify(unverified)?)
    }

    fn keys_usable(&self, ports: &Ports<'_>) -> bool {
        let held = self.keys.borrow();
        let Some(remote) = &self.remote else {
            return held.set.is_some();
        };
        if held.set.is_none() {
            return false;
        }
        let age = ports.clock.monotonic().saturating_sub(held.fetched);
        if remote.schedule.is_late(age) {
            ports.metrics.note(&Event::StaleKeys);
        }
        age <= remote.schedule.max_stale
    }

    fn identify(&self, token: Unverified) -> Result<Identity, Reason> {
        let text = |path: &str| {
            let text = token.claim(path).and_then(claim_text);
            text.filter(|text| !text.is_empty())
        };
        let subject = text(&self.subject_claim).ok_or(Reason::TokenSubjectMissing)?;
        let roles = token.claim(&self.roles_claim).map(claim_list).unwrap_or_default();
        let tenant = self
            .tenant_claim
            .as_deref()
            .and_then(text)
            .or_else(|| self.default_tenant.clone());
        let extra: Vec<_> = self
            .headers
            .iter()
            .filter_map(|(header, path)| Some((header.clone(), claim_header(token.claim(path)?)?)))
            .collect();
        Ok(Identity::new(
            &self.label,
            subject,
            Method::Jwt,
            roles,
            tenant,
            token.claims,
            extra,
        )
        .telling(&self.told))
    }
}

#[cfg(test)]
mod tests;
