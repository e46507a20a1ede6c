//! Converts a policy request into an HTTP request to the component, and its response into a decision.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, Uri};

use crate::bindings::{Allowance, Header, Identity, Request};
use crate::decision::{self, DenialContent, DenialResponse};
use crate::grants::Capability;
use crate::{Decision, Failure};

use crate::entry::Entry;

/// Maximum size of a response body, in bytes.
pub(super) const MAX_RESPONSE_BODY: usize = 64 << 10;

/// Prefix of headers that the host sets. Client-sent headers with this prefix are removed.
const TRUSTED_PREFIX: &str = "x-postern-";
/// A header `x-postern-set-<name>` of a 2xx response sets the header `<name>` for the upstream.
const SET_PREFIX: &str = "x-postern-set-";

/// The client's request, with the caller's identity and the decision's context in `x-postern-` headers.
pub(super) fn to_http_request(entry: &Entry, request: &Request) -> Result<http::Request<Bytes>, Failure> {
    // A `wasi:http` component cannot receive a request that HTTP types cannot represent.
    let unsupported =
        |what: &str| Failure::Failed(format!("the request's {what} cannot be represented in wasi:http"));
    let target = match &request.query {
        Some(query) => format!("{}?{query}", request.path),
        None => request.path.clone(),
    };
    let uri = Uri::builder()
        .scheme(request.scheme.as_str())
        .authority(request.authority.as_str())
        .path_and_query(target)
        .build()
        .map_err(|_| unsupported("URL"))?;
    let body = Bytes::from(request.body.clone().unwrap_or_default());
    let mut built = http::Request::new(body);
    *built.method_mut() = request.method.parse().map_err(|_| unsupported("method"))?;
    *built.uri_mut() = uri;
    let headers = built.headers_mut();
    for Header { name, value } in &request.headers {
        let framing = matches!(
            name.as_str(),
            "connection"
                | "content-length"
                | "host"
                | "keep-alive"
                | "proxy-connection"
                | "te"
                | "transfer-encoding"
                | "upgrade"
        );
        if framing || name.starts_with(TRUSTED_PREFIX) {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unsupported("header"))?;
        headers.append(
            name,
            HeaderValue::from_bytes(value).map_err(|_| unsupported("header"))?,
        );
    }
    let mut set = |name: &'static str, value: &str| -> Result<(), Failure> {
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unsupported("identity"))?;
        headers.insert(HeaderName::from_static(name), value);
        Ok(())
    };
    set("x-postern-request-id", &request.id)?;
    set("x-postern-rule", &request.rule)?;
    set("x-postern-time", &request.time.to_string())?;
    if entry.grants.has(Capability::Config) {
        set("x-postern-config", entry.config.get())?;
    }
    if let Some(address) = &request.source_address {
        set("x-postern-source-address", address)?;
    }
    if let Some(Identity {
        subject,
        issuer,
        method,
        roles,
        tenant,
        claims,
    }) = &request.identity
    {
        set("x-postern-subject", subject)?;
        set("x-postern-issuer", issuer)?;
        set("x-postern-method", method)?;
        // The component would read a role with a comma as two roles.
        if roles.iter().any(|role| role.contains(',')) {
            return Err(unsupported("roles"));
        }
        set("x-postern-roles", &roles.join(","))?;
        set("x-postern-claims", claims)?;
        if let Some(tenant) = tenant {
            set("x-postern-tenant", tenant)?;
        }
    }
    Ok(built)
}

/// The decision of a response: 2xx allows the request, any other response is returned to the client as the denial.
pub(super) fn to_decision(response: http::Response<Bytes>) -> Result<Decision, Failure> {
    let (head, body) = response.into_parts();
    let headers = head.headers.iter().map(|(name, value)| Header {
        name: name.as_str().to_owned(),
        value: value.as_bytes().to_vec(),
    });
    if head.status.is_success() {
        let headers: Vec<_> = headers
            .filter_map(|Header { name, value }| {
                let name = name.strip_prefix(SET_PREFIX)?.to_owned();
                Some(Header { name, value })
            })
            .collect();
        decision::check_headers(&headers)?;
        return Ok(Decision::Allow(Allowance {
            headers,
            obligations: Vec::new(),
            cache: None,
        }));
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS || head.status.is_informational() {
        return Err(Failure::Reply(format!(
            "denial status {} is not in 300 to 599",
            head.status.as_u16()
        )));
    }
    decision::check_status(head.status.as_u16())?;
    // Whoever sends the denial sets the framing headers.
    let headers: Vec<_> = headers
        .filter(|header| {
            !matches!(
                header.name.as_str(),
                "content-length" | "transfer-encoding" | "connection"
            )
        })
        .collect();
    decision::check_headers(&headers)?;
    Ok(Decision::Deny(DenialResponse {
        status: head.status.as_u16(),
        headers,
        content: DenialContent::Body(body),
    }))
}
