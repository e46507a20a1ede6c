//! JSON Web Tokens: the issuer and the key fix the algorithm, every claim is checked, and verified tokens are cached.

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
use crate::id::IssuerId;
use crate::identity::{CredentialKind, Identity, claim_header, claim_list, claim_text};
use crate::ports::{Observation, Ports};

pub use key::VerifyingKey;
pub use keyset::KeySetError;
pub use schedule::{FetchRecord, Schedule};
pub use token::split_token;

use cache::TokenCache;
pub(crate) use keyset::KeySet;
use token::{UnverifiedToken, Validity};

/// The number of tokens that one worker caches, in each of two generations.
const CACHED_TOKENS: usize = 2_000;

/// The longest token that is cached, in bytes. Longer ones are verified each time, so that the cache stays small.
const MAX_CACHED_TOKEN: usize = 4 * 1024;

/// A token whose signature and claims were verified.
#[derive(Debug)]
pub(crate) struct VerifiedToken {
    issuer: IssuerId,
    validity: Validity,
    identity: Rc<Identity>,
}

/// An issuer, compiled.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) id: IssuerId,
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
    pub(crate) exposed: Vec<IdentityHeader>,
    /// Where the keys are fetched; `None` if they are in the configuration.
    pub(crate) remote: Option<Remote>,
    pub(crate) keys: RefCell<CachedKeys>,
}

/// Where and when an issuer's keys are fetched.
#[derive(Debug, Clone)]
pub struct Remote {
    /// The issuer's name in the configuration.
    pub name: String,
    /// The algorithms of the issuer, sorted by name and joined by `+`.
    pub algorithms: String,
    /// The key set's URI.
    pub uri: String,
    /// The proxy's cluster for that server.
    pub cluster: String,
    /// When the key set is fetched.
    pub schedule: Schedule,
}

/// The keys in use, and when they were fetched, on the shared monotonic clock.
#[derive(Debug, Default)]
pub(crate) struct CachedKeys {
    pub(crate) set: Option<KeySet>,
    pub(crate) fetched: Duration,
}

/// Whether a request may wait for newer keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyWait {
    /// It may.
    Allowed,
    /// No: it has waited already, and is decided on with the keys at hand.
    Over,
}

/// Why a token is not accepted.
#[derive(Debug)]
pub(crate) enum VerifyError {
    Refused(Reason),
    /// Keys of this issuer must be fetched first.
    NeedKeys(IssuerId),
}

/// All issuers, and the cache of their verified tokens.
#[derive(Debug)]
pub(crate) struct Issuers {
    list: Vec<Issuer>,
    tokens: RefCell<TokenCache>,
}

impl Issuers {
    pub(crate) fn new(list: Vec<Issuer>) -> Self {
        Self {
            list,
            tokens: RefCell::new(TokenCache::new(CACHED_TOKENS)),
        }
    }

    pub(crate) fn list(&self) -> &[Issuer] {
        &self.list
    }

    /// Puts a fetched key set into use, and clears the cache of tokens that older keys verified.
    /// Returns warnings for operators: the keys that are skipped, and why.
    pub(crate) fn install(
        &self,
        issuer: IssuerId,
        jwks: &[u8],
        fetched: Duration,
    ) -> Result<Vec<String>, KeySetError> {
        let Some(issuer) = self.get(issuer) else {
            return Ok(Vec::new());
        };
        let set = KeySet::from_json(jwks, &issuer.algorithms)?;
        let skipped = set.skipped().to_vec();
        *issuer.keys.borrow_mut() = CachedKeys {
            set: Some(set),
            fetched,
        };
        self.tokens.borrow_mut().clear();
        Ok(skipped)
    }

    /// Verifies `token`, which must be from one of the `accepted` issuers.
    pub(crate) fn verify(
        &self,
        token: &str,
        accepted: &[IssuerId],
        wait: KeyWait,
        ports: &Ports<'_>,
    ) -> Result<Rc<Identity>, VerifyError> {
        let now = ports.clock.wall();
        let fingerprint = (token.len() <= MAX_CACHED_TOKEN).then(|| Sha256::digest(token.as_bytes()).into());
        if let Some(fingerprint) = &fingerprint {
            let known = self.tokens.borrow_mut().get(fingerprint);
            if let Some(known) = known.filter(|known| accepted.contains(&known.issuer)) {
                return self.accept_cached(&known, fingerprint, now, wait, ports);
            }
        }
        let unverified = UnverifiedToken::read(token)?;
        let issuer = self.issuer_of(&unverified, accepted)?;
        let validity = issuer.check_claims(&unverified, now)?;
        let identity = issuer.verify_with_keys(token, unverified, wait, ports)?;
        let identity = Rc::new(identity);
        ports.authenticated(&issuer.label, &identity);
        if let Some(fingerprint) = fingerprint {
            let verified = VerifiedToken {
                issuer: issuer.id,
                validity,
                identity: Rc::clone(&identity),
            };
            self.tokens.borrow_mut().put(fingerprint, Rc::new(verified));
        }
        Ok(identity)
    }

    /// Accepts a cached token. Only time can have changed the result: the token's validity, or the keys' age.
    fn accept_cached(
        &self,
        known: &VerifiedToken,
        fingerprint: &cache::Fingerprint,
        now: Duration,
        wait: KeyWait,
        ports: &Ports<'_>,
    ) -> Result<Rc<Identity>, VerifyError> {
        let issuer = self.get(known.issuer).ok_or(Reason::GateFailed)?;
        if !issuer.keys_usable(ports) {
            return Err(VerifyError::need_keys(known.issuer, wait));
        }
        if let Err(reason) = known.validity.check(now, issuer.leeway) {
            self.tokens.borrow_mut().remove(fingerprint);
            return Err(VerifyError::Refused(reason));
        }
        ports.authenticated(&issuer.label, &known.identity);
        Ok(Rc::clone(&known.identity))
    }

    fn get(&self, id: IssuerId) -> Option<&Issuer> {
        self.list.get(id.index())
    }

    /// The accepted issuer that the token names. The name is unverified: it only selects whose keys verify the token.
    fn issuer_of(&self, token: &UnverifiedToken, accepted: &[IssuerId]) -> Result<&Issuer, Reason> {
        let named = token.issuer().ok_or(Reason::TokenIssuer)?;
        accepted
            .iter()
            .filter_map(|id| self.get(*id))
            .find(|issuer| issuer.issuer == named)
            .ok_or(Reason::TokenIssuer)
    }
}

impl VerifyError {
    /// Waits for keys, or refuses a request that has already waited.
    fn need_keys(issuer: IssuerId, wait: KeyWait) -> Self {
        match wait {
            KeyWait::Allowed => Self::NeedKeys(issuer),
            KeyWait::Over => Self::Refused(Reason::KeysUnavailable),
        }
    }
}

impl From<Reason> for VerifyError {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason)
    }
}

impl Issuer {
    /// All checks that need no key. They are cheap, and come before the signature. Nothing in the token is trusted
    /// yet: it can only lead to a refusal.
    fn check_claims(&self, token: &UnverifiedToken, now: Duration) -> Result<Validity, Reason> {
        if !token.names_audience(&self.audiences) {
            return Err(Reason::TokenAudience);
        }
        let validity = Validity::read(&token.claims, self.expiry)?;
        validity.check(now, self.leeway)?;
        Ok(validity)
    }

    /// Verifies the signature, and only then creates the identity.
    fn verify_with_keys(
        &self,
        token: &str,
        unverified: UnverifiedToken,
        wait: KeyWait,
        ports: &Ports<'_>,
    ) -> Result<Identity, VerifyError> {
        let algorithm = self
            .algorithms
            .iter()
            .find(|algorithm| algorithm.name() == unverified.algorithm)
            .ok_or(Reason::TokenAlgorithm)?;
        if !self.keys_usable(ports) {
            return Err(VerifyError::need_keys(self.id, wait));
        }
        let cached = self.keys.borrow();
        let set = cached.set.as_ref().ok_or(Reason::KeysUnavailable)?;
        let keys = set.candidates(*algorithm, unverified.kid.as_deref());
        if keys.is_empty() {
            let may_fetch = self.remote.is_some() && wait == KeyWait::Allowed && unverified.kid.is_some();
            return Err(if may_fetch {
                VerifyError::NeedKeys(self.id)
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
        let cached = self.keys.borrow();
        let Some(remote) = &self.remote else {
            return cached.set.is_some();
        };
        if cached.set.is_none() {
            return false;
        }
        let age = ports.clock.monotonic().saturating_sub(cached.fetched);
        if remote.schedule.is_late(age) {
            ports.observer.observe(&Observation::StaleKeys);
        }
        age <= remote.schedule.max_stale
    }

    fn identify(&self, token: UnverifiedToken) -> Result<Identity, Reason> {
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
            CredentialKind::Jwt,
            roles,
            tenant,
            token.claims,
            extra,
        )
        .with_headers(&self.exposed))
    }
}

#[cfg(test)]
mod tests;
