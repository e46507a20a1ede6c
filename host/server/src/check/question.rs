//! From a `CheckRequest` to what a policy is asked.
//!
//! `context_extensions` come from the proxy's configuration or from our gate, never from the client: the entry, the
//! rule and the caller's identity are taken from there and from nowhere else.

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

/// The entry that is to decide.
const MODULE: &str = "postern.module";
/// The rule that asks.
const RULE: &str = "postern.rule";
/// The caller, as JSON.
const IDENTITY: &str = "postern.identity";
/// What Envoy's own filter says of a body that it has cut off (`allow_partial_message`).
const PARTIAL: &str = "x-envoy-auth-partial-body";
/// The rule's name where nobody says one: Envoy's own filter asks.
const NO_RULE: &str = "ext_authz";

/// What is asked, and whom.
#[derive(Debug)]
pub(super) struct Question {
    /// The entry; none, if none is named and there is no default.
    pub(super) policy: Option<String>,
    pub(super) request: Result<Request, Unusable>,
}

/// A request that no policy can be asked about.
#[derive(Debug)]
pub(super) struct Unusable {
    pub(super) id: String,
    pub(super) why: Why,
}

/// Why there is no decision.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Why {
    /// Two parsers could read the path differently.
    #[error("the path could be read in two ways")]
    Ambiguous,
    /// Nobody says which policy is to decide.
    #[error(
        "the check names no policy: set context_extensions \"{MODULE}\" on the route, or `policies.default` here"
    )]
    Unnamed,
    /// A policy would decide on a part of what the upstream gets.
    #[error("the body is cut off: give `with_request_body` room for it, without `allow_partial_message`")]
    Partial,
    /// The caller's identity is none.
    #[error("context extension \"{IDENTITY}\": {0}")]
    Identity(&'static str),
    /// The policy did not decide.
    #[error(transparent)]
    Failure(Failure),
}

impl Why {
    /// In one word, for metrics.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Ambiguous => "path_ambiguous",
            Self::Unnamed => "unnamed",
            Self::Partial => "partial_body",
            Self::Identity(_) => "identity",
            Self::Failure(failure) => failure.code(),
        }
    }
}

impl Question {
    /// Reads a check; nothing, if it is none of an HTTP request.
    pub(super) fn read(check: CheckRequest, default: Option<&str>) -> Option<Self> {
        let mut attributes = check.attributes?;
        let asked = attributes.request?;
        let mut http = asked.http.filter(|http| !http.method.is_empty())?;
        let mut extension = |name: &str| {
            attributes
                .context_extensions
                .remove(name)
                .filter(|value| !value.is_empty())
        };
        let policy = extension(MODULE).or_else(|| default.map(ToOwned::to_owned));
        let rule = extension(RULE).unwrap_or_else(|| NO_RULE.to_owned());
        let id = std::mem::take(&mut http.id);
        let headers = headers(&mut http);
        let request = parts(&http).and_then(|(path, query)| {
            if headers.iter().any(|h| h.name == PARTIAL && h.value == b"true") {
                return Err(Why::Partial);
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
                identity: extension(IDENTITY).map(|text| identity(&text)).transpose()?,
                time: asked.time.as_ref().and_then(millis).unwrap_or_else(now),
            })
        });
        Some(Self {
            policy,
            request: request.map_err(|why| Unusable { id, why }),
        })
    }
}

/// The path in its one reading, and the query as it was sent.
fn parts(http: &HttpRequest) -> Result<(String, Option<String>), Why> {
    let path = normalise(http.path.as_bytes()).map_err(|Ambiguous| Why::Ambiguous)?;
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

/// The list holds what the map cannot: repeated names in their order, and bytes that are no text.
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
        // What a client sends under our own names says who it claims to be. The gate strips it, Envoy's own does not.
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
struct Caller<'a> {
    subject: String,
    issuer: String,
    method: String,
    roles: Vec<String>,
    #[serde(default)]
    tenant: Option<String>,
    #[serde(borrow)]
    claims: &'a RawValue,
}

fn identity(text: &str) -> Result<Identity, Why> {
    // What serde says would repeat what stands there.
    let caller: Caller<'_> =
        serde_json::from_str(text).map_err(|_| Why::Identity("is no identity in JSON"))?;
    let claims = caller.claims.get();
    if !claims.starts_with('{') {
        return Err(Why::Identity("its claims are no object"));
    }
    if caller.subject.is_empty() {
        return Err(Why::Identity("its subject is empty"));
    }
    Ok(Identity {
        subject: caller.subject,
        issuer: caller.issuer,
        method: caller.method,
        roles: caller.roles,
        tenant: caller.tenant,
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
