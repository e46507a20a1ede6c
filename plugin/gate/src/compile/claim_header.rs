//! Headers that carry claims to the upstream: which can, and which would mean something else on the way.

use std::collections::BTreeMap;

use postern_config::HeaderName;

use super::Compiler;
use crate::config;
use crate::header_name::folded;
use crate::identity::HEADER_PREFIX;

/// What frames the message or belongs to one connection (RFC 9110, sections 7.6.1 and 10.1; RFC 9113, section 8.2.2).
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

/// What carries the client's credentials.
const CREDENTIALS: [&str; 5] = [
    "authorization",
    "cookie",
    "proxy-authenticate",
    "proxy-authorization",
    "www-authenticate",
];

/// What says where a request came from or goes to, to the proxy or the upstream.
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
            // What some upstream reads as one is one.
            let name = folded(header.as_bytes()).into_owned();
            if let Some(why) = unfit(header, &name) {
                self.errors.add(
                    &at,
                    format!("\"{header}\" cannot carry a claim to the upstream: {why}"),
                );
            }
            if let Some(earlier) = first.insert(name, header) {
                let message = format!(
                    "\"{earlier}\" and \"{header}\" are one header to the upstream, which would see two values; keep one"
                );
                self.errors.add(&at, message);
            }
        }
    }
}

/// Why a header cannot carry a claim, if it cannot.
fn unfit(header: &str, name: &str) -> Option<&'static str> {
    if header.starts_with(':') {
        return Some("it is a pseudo-header of HTTP/2");
    }
    if HeaderName::parse(header.to_owned()).is_err() {
        return Some("it is no header name");
    }
    if name.starts_with(HEADER_PREFIX) {
        return Some("x-postern-* headers are the gate's own; identity_headers picks among them");
    }
    if FRAMING.contains(&name) {
        return Some("it frames the message, or belongs to one connection");
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
    fn headers_that_mean_something_else_carry_no_claims() {
        for (header, fit) in [
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
            let name = folded(header.as_bytes());
            assert_eq!(unfit(header, &name).is_none(), fit, "{header}");
        }
    }
}
