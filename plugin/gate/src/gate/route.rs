//! Which rule a request is for.

use super::Gate;
use crate::Reason;
use crate::authority;
use crate::config::Fallback;
use crate::denial::Denial;
use crate::method::method;
use crate::path::normalise;
use crate::ports::{Event, Ports};
use crate::request::{Request, Single};
use crate::rule::Rule;
use crate::step::{Effects, Progress, Step};

/// What a `Connection` header may name: options, and headers that belong to one connection. Proxies leave the field on an
/// upgrade, and one behind the gate that obeys it (RFC 9110, section 7.6.1) would drop whatever else it names: the
/// headers that say who is calling.
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
    pub(super) fn route(&self, request: &Request<'_>) -> Result<Option<(usize, &Rule)>, Reason> {
        let method = method(request).ok_or(Reason::MethodAmbiguous)?;
        let path = normalise(request.path()).map_err(|_| Reason::PathAmbiguous)?;
        // Whether or not a rule looks at it: the upstream may serve several hosts all the same. A proxy may show two
        // `Host` fields as one, joined by a comma, which no host name holds.
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
        Ok(self.rules.find(method, &host, &path))
    }

    pub(super) fn unmatched(&self, request: &Request<'_>, ports: &Ports<'_>) -> Step {
        match self.fallback {
            Fallback::Deny => self.deny(None, Denial::new(Reason::NoRule), Progress::default(), ports),
            Fallback::Allow => {
                ports.metrics.note(&Event::Admitted { rule: None });
                Step::Continue(Effects {
                    strip: self.reserved_among(request.headers),
                    ..Effects::default()
                })
            }
        }
    }
}
