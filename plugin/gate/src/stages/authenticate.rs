//! The third stage: who the caller is.

use std::rc::Rc;

use crate::Reason;
use crate::api_key::ApiKeys;
use crate::denial::Denial;
use crate::evaluation::Evaluation;
use crate::gate::{Gate, Tables};
use crate::id::IssuerId;
use crate::identity::Identity;
use crate::jwt::{KeyWait, VerifyError};
use crate::pending::{BodyReader, PendingBody, PendingKeys};
use crate::ports::Ports;
use crate::request::{Request, Single};
use crate::rule::{AuthMethod, Rule};
use crate::signature::{self, Scheme};
use crate::step::{Need, Step};

/// The result of authentication, unless it is a refusal.
enum Authentication {
    /// No caller where the rule is open.
    Caller(Option<Rc<Identity>>),
    NeedKeys(IssuerId),
    NeedBody(Box<signature::Pending>),
}

impl Evaluation<'_> {
    pub(super) fn authenticate(self, wait: KeyWait) -> Step {
        match self.check_credentials(wait) {
            Ok(Authentication::Caller(caller)) => self.authorize(caller),
            Ok(Authentication::NeedKeys(issuer)) => Step::Need(Need::Keys(PendingKeys {
                suspended: self.suspend(),
                issuer,
                wait: KeyWait::Over,
            })),
            Ok(Authentication::NeedBody(signature)) => Step::Need(Need::Body(PendingBody {
                suspended: self.suspend(),
                reader: BodyReader::Signature(signature),
            })),
            Err(reason) => self.challenge(reason),
        }
    }

    /// Continues a request whose body, which its signature covers, was received.
    pub(super) fn authenticate_body(mut self, signature: signature::Pending) -> Step {
        self.progress.body = Some(signature.received());
        match signature.finish(self.tables.nonces.as_ref(), self.ports) {
            Ok(caller) => self.authorize(Some(caller)),
            Err(reason) => self.challenge(reason),
        }
    }

    /// Ends with a denial that names the rule's authentication methods, if it is a 401.
    fn challenge(self, reason: Reason) -> Step {
        let denial = challenged(&self.rule, reason);
        self.deny(denial)
    }

    /// The first method whose credential the request carries decides. A second credential cannot make up for an
    /// invalid one.
    fn check_credentials(&self, wait: KeyWait) -> Result<Authentication, Reason> {
        if self.rule.authenticate.is_empty() {
            return Ok(Authentication::Caller(None));
        }
        for method in &self.rule.authenticate {
            let checked = match method {
                AuthMethod::Token => self.check_token(wait)?,
                AuthMethod::ApiKey(set) => self.check_api_key(set)?,
                AuthMethod::Signature(scheme) => self.check_signature(scheme)?,
            };
            if let Some(authentication) = checked {
                return Ok(authentication);
            }
        }
        Err(Reason::CredentialsMissing)
    }

    fn check_token(&self, wait: KeyWait) -> Result<Option<Authentication>, Reason> {
        let Some(token) = bearer(self.request)? else {
            return Ok(None);
        };
        match self
            .gate
            .issuers()
            .verify(token, &self.rule.issuers, wait, self.ports)
        {
            Ok(caller) => Ok(Some(Authentication::Caller(Some(caller)))),
            Err(VerifyError::NeedKeys(issuer)) => Ok(Some(Authentication::NeedKeys(issuer))),
            Err(VerifyError::Refused(reason)) => Err(reason),
        }
    }

    fn check_api_key(&self, set: &ApiKeys) -> Result<Option<Authentication>, Reason> {
        let Some(caller) = set.verify(self.request, || self.ports.clock.wall()).transpose()? else {
            return Ok(None);
        };
        self.ports.authenticated(&set.label, &caller);
        Ok(Some(Authentication::Caller(Some(caller))))
    }

    fn check_signature(&self, scheme: &Rc<Scheme>) -> Result<Option<Authentication>, Reason> {
        let Some(signature) = scheme.begin(self.request, self.ports).transpose()? else {
            return Ok(None);
        };
        if self.request.end_of_stream {
            let caller = signature.finish(self.tables.nonces.as_ref(), self.ports)?;
            return Ok(Some(Authentication::Caller(Some(caller))));
        }
        if self.request.is_upgrade() {
            return Err(Reason::UpgradeRefused);
        }
        Ok(Some(Authentication::NeedBody(Box::new(signature))))
    }
}

impl Gate {
    /// Continues a request after newer keys were installed, or when there were none: it is then decided on with the
    /// keys at hand. `request` is the same as before.
    pub fn resume_with_keys(
        &self,
        pending: PendingKeys,
        request: &Request<'_>,
        tables: &Tables,
        ports: &Ports<'_>,
    ) -> Step {
        let PendingKeys { suspended, wait, .. } = pending;
        Evaluation::resume(suspended, self, request, tables, ports).authenticate(wait)
    }

    /// Refuses a request that cannot wait for keys, because too many wait already.
    pub fn refuse_without_keys(&self, pending: PendingKeys, ports: &Ports<'_>) -> Denial {
        pending.suspended.deny(Reason::KeysUnavailable, ports)
    }
}

/// A 401 names the rule's authentication methods (RFC 9110, section 15.5.2).
fn challenged(rule: &Rule, reason: Reason) -> Denial {
    let denial = Denial::new(reason);
    match reason.status() {
        401 if reason == Reason::CredentialsMissing => {
            denial.header("www-authenticate", rule.challenge.missing.as_str())
        }
        401 => denial.header("www-authenticate", rule.challenge.invalid.as_str()),
        _ => denial,
    }
}

/// The bearer token (RFC 6750, section 2.1). Two `Authorization` headers, or one that holds two values because a
/// proxy joined them, are refused.
fn bearer<'a>(request: &Request<'a>) -> Result<Option<&'a str>, Reason> {
    let value = match request.credential("authorization") {
        Single::Absent => return Ok(None),
        Single::Multiple => return Err(Reason::CredentialsAmbiguous),
        Single::One(value) => value,
    };
    let is_bearer = |credentials: &&[u8]| {
        let scheme = credentials.trim_ascii_start().get(..7);
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "))
    };
    // No token holds a comma.
    let joined = value.contains(&b',');
    let mut bearers = value.split(|byte| *byte == b',').filter(is_bearer);
    let Some(token) = bearers.next().and_then(|first| first.trim_ascii_start().get(7..)) else {
        return Ok(None);
    };
    if joined {
        return Err(Reason::CredentialsAmbiguous);
    }
    let token = std::str::from_utf8(token).map_err(|_| Reason::TokenMalformed)?;
    // An empty credential counts as absent.
    Ok((!token.trim().is_empty()).then_some(token.trim_matches(' ')))
}
