//! Translates a `CheckRequest` to the request for a policy.
//!
//! `context_extensions` come from the proxy's configuration or from our gate, never from the client: the entry, the
//! rule and the caller's identity are taken only from there.

use std::time::{SystemTime, UNIX_EPOCH};

use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::service::auth::v3::CheckRequest;
use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Peer};
use envoy_types::pb::google::protobuf::Timestamp;
use postern_gate::HEADER_PREFIX;
use postern_gate::path::{Ambiguous, normalise};
use postern_policy::{Failure, Header, Identity, Request};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The entry that decides.
const MODULE_EXTENSION: &str = "postern.module";
/// The rule that calls the policy.
const RULE_EXTENSION: &str = "postern.rule";
/// The caller's identity, as JSON.
const IDENTITY_EXTENSION: &str = "postern.identity";
/// Envoy's own filter sets it on bodies that it has truncated (`allow_partial_message`).
const PARTIAL_BODY_HEADER: &str = "x-envoy-auth-partial-body";
/// The rule name if none is given, as by Envoy's own filter.
const DEFAULT_RULE: &str = "ext_authz";

/// A request and the policy to call.
#[derive(Debug)]
pub(super) struct PolicyCall {
    /// The entry; `None` if none is named and there is no default.
    pub(super) policy: Option<String>,
    pub(super) request: Result<Request, InvalidCheck>,
}

/// A check that cannot be passed to a policy.
#[derive(Debug)]
pub(super) struct InvalidCheck {
    pub(super) id: String,
    pub(super) error: CheckError,
}

/// There is no decision.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum CheckError {
    /// Parsers could interpret the path differently.
    #[error("the path is ambiguous")]
    AmbiguousPath,
    /// Neither the request nor the settings name a policy.
    #[error(
        "the check names no policy: set context_extensions \"{MODULE_EXTENSION}\" on the route, or `policies.default` here"
    )]
    NoPolicy,
    /// The policy would decide on a part of what the upstream receives.
    #[error(
        "the body is truncated: raise the limit of `with_request_body`, and do not set `allow_partial_message`"
    )]
    PartialBody,
    /// The caller's identity is invalid.
    #[error("context extension \"{IDENTITY_EXTENSION}\": {0}")]
    InvalidIdentity(&'static str),
    /// The policy did not decide.
    #[error(transparent)]
    Failure(Failure),
}

impl CheckError {
    /// The code for metrics and audit events.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::AmbiguousPath => "path_ambiguous",
            Self::NoPolicy => "unnamed",
            Self::PartialBody => "partial_body",
            Self::InvalidIdentity(_) => "identity",
            Self::Failure(failure) => failure.code(),
        }
    }
}

impl PolicyCall {
    /// Parses a check; `None` if it is not about an HTTP request.
    pub(super) fn parse(check: CheckRequest, default: Option<&str>) -> Option<Self> {
        let mut attributes = check.attributes?;
        let request = attributes.request?;
        let mut http = request.http.filter(|http| !http.method.is_empty())?;
        let mut extension = |name: &str| {
            attributes
                .context_extensions
                .remove(name)
                .filter(|value| !value.is_empty())
        };
        let policy = extension(MODULE_EXTENSION).or_else(|| default.map(ToOwned::to_owned));
        let rule = extension(RULE_EXTENSION).unwrap_or_else(|| DEFAULT_RULE.to_owned());
        let id = std::mem::take(&mut http.id);
        let headers = headers(&mut http);
        let request = parts(&http).and_then(|(path, query)| {
            if headers
                .iter()
                .any(|h| h.name == PARTIAL_BODY_HEADER && h.value == b"true")
            {
                return Err(CheckError::PartialBody);
            }
            Ok(Request {
                id: id.clone(),
                rule,
                method: std::mem::take(&mut http.method),
                scheme: std::mem::take(&mut http.scheme),
                authority: std::mem::take(&mut http.host),
                path,
                query,
                body: body(&mut http),
                headers,
                source_address: attributes.source.and_then(address),
                identity: extension(IDENTITY_EXTENSION)
                    .map(|text| identity(&text))
                    .transpose()?,
                time: request.time.as_ref().and_then(millis).unwrap_or_else(now),
            })
        });
        Some(Self {
            policy,
            request: request.map_err(|error| InvalidCheck { id, error }),
        })
    }
}

/// The normalised path, and the query as it was sent.
fn parts(http: &HttpRequest) -> Result<(String, Option<String>), CheckError> {
    let path = normalise(http.path.as_bytes()).map_err(|Ambiguous| CheckError::AmbiguousPath)?;
    let query = http.path.split_once('?').map(|(_, query)| query.to_owned());
    Ok((path.into_owned(), query))
}

fn body(http: &mut HttpRequest) -> Option<Vec<u8>> {
    let body = if http.raw_body.is_empty() {
        std::mem::take(&mut http.body).into_bytes()
    } else {
        std::mem::take(&mut http.raw_body)
    };
    (!body.is_empty()).then_some(body)
}

/// Prefers the list, which holds what the map cannot: repeated names in their order, and bytes that are not UTF-8.
fn headers(http: &mut HttpRequest) -> Vec<Header> {
    let one_by_one = http.header_map.take().map(|map| map.headers).unwrap_or_default();
    let headers: Vec<_> = if one_by_one.is_empty() {
        let merged = std::mem::take(&mut http.headers).into_iter();
        merged.map(|(name, value)| (name, value.into_bytes())).collect()
    } else {
        let value = |raw: Vec<u8>, text: String| if raw.is_empty() { text.into_bytes() } else { raw };
        one_by_one
            .into_iter()
            .map(|header| (header.key, value(header.raw_value, header.value)))
            .collect()
    };
    headers
        .into_iter()
        .map(|(name, value)| Header {
            name: name.to_ascii_lowercase(),
            value,
        })
        // Headers of our own names from a client are forged. The gate strips them, Envoy's own filter does not.
        .filter(|header| !header.name.starts_with(':') && !header.name.starts_with(HEADER_PREFIX))
        .collect()
}

fn address(peer: Peer) -> Option<String> {
    match peer.address?.address? {
        Address::SocketAddress(socket) => Some(socket.address),
        _ => None,
    }
}

#[derive(Deserialize)]
struct IdentityExtension<'a> {
    subject: String,
    issuer: String,
    method: String,
    roles: Vec<String>,
    #[serde(default)]
    tenant: Option<String>,
    #[serde(borrow)]
    claims: &'a RawValue,
}

fn identity(text: &str) -> Result<Identity, CheckError> {
    // serde's error would repeat the value.
    let extension: IdentityExtension<'_> =
        serde_json::from_str(text).map_err(|_| CheckError::InvalidIdentity("is not an identity in JSON"))?;
    let claims = extension.claims.get();
    if !claims.starts_with('{') {
        return Err(CheckError::InvalidIdentity("its claims are not an object"));
    }
    if extension.subject.is_empty() {
        return Err(CheckError::InvalidIdentity("its subject is empty"));
    }
    Ok(Identity {
        subject: extension.subject,
        issuer: extension.issuer,
        method: extension.method,
        roles: extension.roles,
        tenant: extension.tenant,
        claims: claims.to_owned(),
    })
}

fn millis(time: &Timestamp) -> Option<u64> {
    let seconds = u64::try_from(time.seconds).ok()?;
    let nanos = u64::try_from(time.nanos).ok()?;
    seconds.checked_mul(1000)?.checked_add(nanos / 1_000_000)
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
