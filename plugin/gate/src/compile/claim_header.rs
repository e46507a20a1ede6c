//! Checks the headers that carry claims to the upstream: some names have another meaning to proxies and upstreams.

use std::collections::BTreeMap;

use postern_config::HeaderName;

use super::Compiler;
use crate::config;
use crate::header_name::fold;
use crate::identity::HEADER_PREFIX;

/// Headers that frame the message or belong to one connection (RFC 9110, sections 7.6.1 and 10.1; RFC 9113, section
/// 8.2.2).
pub(super) const FRAMING: [&str; 14] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
];

/// Headers that carry credentials.
const CREDENTIALS: [&str; 5] = [
    "authorization",
    "cookie",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
];

/// Headers that say where a request comes from or goes to, to a proxy or the upstream.
const ROUTING: [&str; 12] = [
    "forwarded",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
];

impl Compiler<'_> {
    pub(super) fn claim_headers(&mut self, at: &str, issuer: &config::Issuer) {
        let at = format!("{at}.headers");
        let mut first: BTreeMap<String, &str> = BTreeMap::new();
        for header in issuer.headers.keys() {
            // Two spellings that some upstream reads as one header count as one.
            let name = fold(header.as_bytes()).into_owned();
            if let Some(why) = forbidden(header, &name) {
                self.errors.add(
                    &at,
                    format!("\"{header}\" cannot carry a claim to the upstream: {why}"),
                );
            }
            if let Some(earlier) = first.insert(name, header) {
                let message = format!(
                    "\"{earlier}\" and \"{header}\" are the same header to the upstream, which would get two values; remove one"
                );
                self.errors.add(&at, message);
            }
        }
    }
}

/// If a header cannot carry a claim, the reason. `name` is the folded name.
fn forbidden(header: &str, name: &str) -> Option<&'static str> {
    if header.starts_with(':') {
        return Some("it is an HTTP/2 pseudo-header");
    }
    if HeaderName::parse(header.to_owned()).is_err() {
        return Some("it is not a header name");
    }
    if name.starts_with(HEADER_PREFIX) {
        return Some("x-postern-* headers are reserved; identity_headers selects among them");
    }
    if FRAMING.contains(&name) {
        return Some("it frames the message or belongs to one connection");
    }
    if CREDENTIALS.contains(&name) {
        return Some("it carries credentials");
    }
    let routing = ROUTING.contains(&name) || name.starts_with("x-envoy-");
    routing.then_some("it tells the proxy or the upstream where a request comes from or goes to")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_with_another_meaning_carry_no_claims() {
        for (header, allowed) in [
            ("x-user", true),
            ("X-User_Id", true),
            ("x-forwarded-user", true),
            ("x-tenant", true),
            ("x-postern-subject", false),
            ("X-Postern-Else", false),
            ("x_postern_subject", false),
            ("x.postern.subject", false),
            ("te", false),
            ("TE", false),
            ("upgrade", false),
            ("keep-alive", false),
            ("proxy-connection", false),
            ("trailer", false),
            ("transfer_encoding", false),
            ("content-type", false),
            ("host", false),
            (":path", false),
            (":authority", false),
            ("a b", false),
            ("", false),
            ("authorization", false),
            ("cookie", false),
            ("x-forwarded-for", false),
            ("x-envoy-retry-on", false),
            ("x-original-url", false),
        ] {
            let name = fold(header.as_bytes());
            assert_eq!(forbidden(header, &name).is_none(), allowed, "{header}");
        }
    }
}
