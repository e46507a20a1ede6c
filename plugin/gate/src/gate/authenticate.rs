//! Who is calling.

use std::rc::Rc;

use super::ending::Refusal;
use super::{Gate, Tables};
use crate::Reason;
use crate::denial::Denial;
use crate::identity::Identity;
use crate::jwt::Outcome;
use crate::ports::Ports;
use crate::request::{Request, Single};
use crate::rule::{AuthMethod, Rule};
use crate::step::{Need, Pending, Progress, Step, Waiting};

/// What authenticating comes to.
enum Auth {
    Caller(Option<Rc<Identity>>),
    Need(Need, Waiting),
}

impl Gate {
    #[expect(
        clippy::too_many_arguments,
        reason = "one request's state, passed on rather than stored"
    )]
    pub(super) fn authenticated_by(
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
                AuthMethod::Token => self.by_token(rule, request, fetched, ports)?,
                AuthMethod::ApiKey(index) => self.by_api_key(*index, request, ports)?,
                AuthMethod::Signature(index) => self.by_signature(*index, request, tables, ports)?,
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
            Outcome::NeedKeys(issuer) => Ok(Some(Auth::Need(
                Need::Keys { issuer },
                Waiting::Keys { again: false },
            ))),
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
            let identity = scheme.finish(signature, tables.nonces.as_ref(), ports)?;
            return Ok(Some(Auth::Caller(Some(identity))));
        }
        if request.is_upgrade() {
            return Err(Reason::UpgradeRefused);
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
}

/// A 401 names the ways in (RFC 9110, section 15.5.2).
pub(super) fn challenged(rule: &Rule, reason: Reason) -> Refusal {
    let denial = Denial::new(reason);
    Refusal(match reason.status() {
        401 if reason == Reason::CredentialsMissing => {
            denial.header("www-authenticate", rule.challenge.missing.as_str())
        }
        401 => denial.header("www-authenticate", rule.challenge.invalid.as_str()),
        _ => denial,
    })
}

/// The bearer token (RFC 6750, section 2.1). Two `Authorization` headers, or one that holds two values because a proxy
/// joined them, are refused.
fn bearer<'a>(request: &Request<'a>) -> Result<Option<&'a str>, Reason> {
    let value = match request.credential("authorization") {
        Single::Absent => return Ok(None),
        Single::Several => return Err(Reason::CredentialsAmbiguous),
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
    // An empty credential is none.
    Ok((!token.trim().is_empty()).then_some(token.trim_matches(' ')))
}
