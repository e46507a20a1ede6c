//! The first stage: which rule a request is for.

use std::rc::Rc;

use crate::Reason;
use crate::authority;
use crate::config::Fallback;
use crate::denial::Denial;
use crate::gate::Gate;
use crate::method::method;
use crate::path::normalise;
use crate::ports::{Observation, Ports};
use crate::request::{Request, Single};
use crate::rule::Rule;
use crate::step::{Effects, Step};

/// What a `Connection` header may name: options, and headers that belong to one connection. On an upgrade, proxies
/// pass the header on, and a proxy behind the gate that obeys it (RFC 9110, section 7.6.1) would drop whatever else
/// it names: the caller's identity headers, for one.
const HOP: [&[u8]; 6] = [b"", b"upgrade", b"keep-alive", b"close", b"te", b"http2-settings"];

fn names_hop_headers_only(request: &Request<'_>) -> bool {
    let is_hop = |option: &[u8]| {
        let option = option.trim_ascii();
        HOP.iter().any(|hop| hop.eq_ignore_ascii_case(option))
    };
    request
        .values("connection")
        .all(|value| value.split(|byte| *byte == b',').all(is_hop))
}

impl Gate {
    pub(super) fn route(&self, request: &Request<'_>) -> Result<Option<&Rc<Rule>>, Reason> {
        let method = method(request).ok_or(Reason::MethodAmbiguous)?;
        let path = normalise(request.path()).map_err(|_| Reason::PathAmbiguous)?;
        // Checked whether or not a rule matches by host: the upstream may serve several. A proxy may join two `Host`
        // fields with a comma, which no host name contains.
        let Single::One(authority) = request.single(":authority") else {
            return Err(Reason::HostAmbiguous);
        };
        if request.first("host").is_some() {
            return Err(Reason::HostAmbiguous);
        }
        if !names_hop_headers_only(request) {
            return Err(Reason::ConnectionAmbiguous);
        }
        let host = authority::host(authority).map_err(|_| Reason::HostAmbiguous)?;
        Ok(self.find_rule(method, &host, &path))
    }

    /// Applies `default` to a request that no rule matches.
    pub(super) fn unmatched(&self, request: &Request<'_>, ports: &Ports<'_>) -> Step {
        match self.fallback() {
            Fallback::Deny => Step::Deny(Denial::unrouted(Reason::NoRule, ports)),
            Fallback::Allow => {
                ports.observer.observe(&Observation::Admitted { rule: None });
                Step::Continue(Effects {
                    strip: self.reserved_among(request.headers),
                    ..Effects::default()
                })
            }
        }
    }
}
