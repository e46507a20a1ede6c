//! Requests signed with a shared secret (HMAC-SHA-256, RFC 2104). The gate, never the client, defines what a
//! signature must cover. Comparison takes constant time. Several secrets are accepted during a rotation.

mod github;
mod keyed;

use std::rc::Rc;

use hmac::{Hmac, KeyInit};
use sha2::Sha256;

use crate::Reason;
use crate::identity::Identity;
use crate::ports::Ports;
use crate::replay::NonceStore;
use crate::request::Request;
use crate::secret::Secret;

pub use keyed::string_to_sign;

pub(crate) use github::Github;
pub(crate) use keyed::{HeaderNames, Keyed, MAX_KEY_ID, Signer};

type HmacSha256 = Hmac<Sha256>;

/// A signature scheme, compiled.
#[derive(Debug)]
pub(crate) struct Scheme {
    /// `signatures/<name>`.
    pub(crate) label: Rc<str>,
    /// The largest accepted body, in bytes.
    pub(crate) max_body: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Github(Rc<Github>),
    Keyed(Rc<Keyed>),
}

/// A signature whose headers were parsed, and whose body has not been received yet.
#[derive(Debug)]
pub(crate) struct Pending {
    label: Rc<str>,
    max_body: usize,
    received: usize,
    kind: PendingKind,
}

#[derive(Debug)]
enum PendingKind {
    Github(github::Pending),
    Keyed(keyed::Pending),
}

impl Scheme {
    /// Whether the scheme stores nonces to refuse replays.
    pub(crate) fn refuses_replays(&self) -> bool {
        matches!(&self.kind, Kind::Keyed(keyed) if keyed.nonces.is_some())
    }

    /// The headers that carry the signature.
    pub(crate) fn headers(&self) -> Vec<&str> {
        match &self.kind {
            Kind::Github(_) => vec![github::HEADER],
            Kind::Keyed(scheme) => scheme.headers.names().to_vec(),
        }
    }

    /// Reads the signature in the request's headers; `None` if it carries none of this scheme.
    pub(crate) fn begin(&self, request: &Request<'_>, ports: &Ports<'_>) -> Option<Result<Pending, Reason>> {
        let kind = match &self.kind {
            Kind::Github(scheme) => scheme.begin(request).map(|r| r.map(PendingKind::Github)),
            Kind::Keyed(scheme) => scheme.begin(request, ports).map(|r| r.map(PendingKind::Keyed)),
        }?;
        let too_large = request.is_longer_than(self.max_body);
        Some(kind.and_then(|kind| {
            if too_large {
                return Err(Reason::BodyTooLarge);
            }
            Ok(Pending {
                label: Rc::clone(&self.label),
                max_body: self.max_body,
                received: 0,
                kind,
            })
        }))
    }
}

impl Pending {
    /// Receives the next part of the body, without storing it.
    ///
    /// # Errors
    /// [`Reason::BodyTooLarge`] if the body exceeds the limit.
    pub(crate) fn body(&mut self, part: &[u8]) -> Result<(), Reason> {
        self.received = self.received.saturating_add(part.len());
        if self.received > self.max_body {
            return Err(Reason::BodyTooLarge);
        }
        match &mut self.kind {
            PendingKind::Github(pending) => pending.body(part),
            PendingKind::Keyed(pending) => pending.body(part),
        }
        Ok(())
    }

    /// The number of bytes received so far.
    pub(crate) fn received(&self) -> usize {
        self.received
    }

    /// Verifies the signature once the body is complete.
    pub(crate) fn finish(
        self,
        nonces: Option<&NonceStore>,
        ports: &Ports<'_>,
    ) -> Result<Rc<Identity>, Reason> {
        let identity = match self.kind {
            PendingKind::Github(pending) => pending.finish(),
            PendingKind::Keyed(pending) => pending.finish(&self.label, nonces, ports),
        }?;
        ports.authenticated(&self.label, &identity);
        Ok(identity)
    }
}

fn mac(secret: &Secret) -> Result<HmacSha256, Reason> {
    HmacSha256::new_from_slice(secret.expose()).map_err(|_| Reason::GateFailed)
}

/// Parses 32 bytes in hexadecimal, in either case.
fn mac_from_hex(hex: &[u8]) -> Result<[u8; 32], Reason> {
    use ct_codecs::{Decoder, Hex};
    let mut bytes = [0; 32];
    match Hex::decode(&mut bytes, hex, None) {
        Ok(decoded) if decoded.len() == 32 => Ok(bytes),
        _ => Err(Reason::SignatureMalformed),
    }
}

#[cfg(test)]
mod tests;
