//! GitHub webhooks: `X-Hub-Signature-256: sha256=<hex>`, HMAC-SHA-256 over the raw body
//! (GitHub Docs, "Validating webhook deliveries").

use std::rc::Rc;

use hmac::Mac;

use super::{HmacSha256, mac, mac_from_hex};
use crate::Reason;
use crate::identity::Identity;
use crate::request::{Request, Single};
use crate::secret::Secret;

pub(crate) const HEADER: &str = "x-hub-signature-256";

#[derive(Debug)]
pub(crate) struct Github {
    secrets: Vec<Secret>,
    identity: Rc<Identity>,
}

/// A signature to verify: one MAC for each secret, all updated with the body.
#[derive(Debug)]
pub(crate) struct Pending {
    scheme: Rc<Github>,
    macs: Vec<HmacSha256>,
    signature: [u8; 32],
}

impl Github {
    pub(crate) fn new(secrets: Vec<Secret>, identity: Identity) -> Self {
        Self {
            secrets,
            identity: Rc::new(identity),
        }
    }

    pub(crate) fn begin(self: &Rc<Self>, request: &Request<'_>) -> Option<Result<Pending, Reason>> {
        match request.credential(HEADER) {
            Single::Absent => None,
            Single::Multiple => Some(Err(Reason::CredentialsAmbiguous)),
            Single::One(value) => Some(self.read(value)),
        }
    }

    fn read(self: &Rc<Self>, value: &[u8]) -> Result<Pending, Reason> {
        let hex = value.strip_prefix(b"sha256=").ok_or(Reason::SignatureMalformed)?;
        let macs = self.secrets.iter().map(mac).collect::<Result<_, _>>()?;
        Ok(Pending {
            scheme: Rc::clone(self),
            macs,
            signature: mac_from_hex(hex)?,
        })
    }
}

impl Pending {
    pub(crate) fn body(&mut self, part: &[u8]) {
        self.macs.iter_mut().for_each(|mac| mac.update(part));
    }

    pub(crate) fn finish(self) -> Result<Rc<Identity>, Reason> {
        let signature = self.signature.into();
        // Tries every secret, so that timing does not reveal which one signed.
        let matches = self
            .macs
            .into_iter()
            .filter(|mac| mac.clone().verify(&signature).is_ok())
            .count();
        if matches > 0 {
            Ok(Rc::clone(&self.scheme.identity))
        } else {
            Err(Reason::SignatureMismatch)
        }
    }
}
