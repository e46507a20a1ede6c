//! Which rule a request is for.

use super::Gate;
use crate::Reason;
use crate::config::Fallback;
use crate::denial::Denial;
use crate::path::normalise;
use crate::ports::{Event, Ports};
use crate::request::{Request, Single};
use crate::rule::Rule;
use crate::step::{Effects, Progress, Step};

impl Gate {
    pub(super) fn route(&self, request: &Request<'_>) -> Result<Option<(usize, &Rule)>, Reason> {
        let path = normalise(request.path()).map_err(|_| Reason::PathAmbiguous)?;
        // A proxy may show two `Host` fields as one, joined by a comma, which no host name holds.
        let authority = match request.single(":authority") {
            Single::Absent => &[][..],
            Single::One(authority) if !authority.contains(&b',') => authority,
            Single::One(_) | Single::Several => return Err(Reason::HostAmbiguous),
        };
        if request.first("host").is_some() {
            return Err(Reason::HostAmbiguous);
        }
        let host = if self.rules.needs_host() {
            host_of(authority)?
        } else {
            String::new()
        };
        Ok(self.rules.find(request.method(), &host, &path))
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

/// A host without its port, in lower case.
fn host_of(authority: &[u8]) -> Result<String, Reason> {
    let authority = std::str::from_utf8(authority).map_err(|_| Reason::HostAmbiguous)?;
    if authority.contains('@') {
        return Err(Reason::HostAmbiguous);
    }
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    Ok(host.trim_end_matches('.').to_ascii_lowercase())
}
