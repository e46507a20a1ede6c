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
