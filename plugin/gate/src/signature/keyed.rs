//! The `keyed` scheme: a signature over the method, path with query, timestamp, nonce and body digest, with a key id.
//! docs/configuration.md documents it for clients; `postern sign-request` creates such a signature.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use hmac::Mac;
use sha2::{Digest as _, Sha256};

use super::{mac, mac_from_hex};
use crate::Reason;
use crate::identity::Identity;
use crate::ports::Ports;
use crate::replay::{NonceStore, NonceUse};
use crate::request::{Request, Single};
use crate::secret::Secret;

/// The length of a nonce, which the client chooses, in bytes. Bounded so that it is cheap to store.
const NONCE_LENGTH: std::ops::RangeInclusive<usize> = 8..=128;
/// The longest key id, in bytes.
pub(crate) const MAX_KEY_ID: usize = 128;

#[derive(Debug)]
pub(crate) struct Keyed {
    pub(crate) headers: HeaderNames,
    pub(crate) keys: HashMap<String, Signer>,
    pub(crate) max_skew: Duration,
    /// The most nonces stored for a key; `None` if replays are allowed.
    pub(crate) nonces: Option<u32>,
}

#[derive(Debug)]
pub(crate) struct HeaderNames {
    key_id: String,
    timestamp: String,
    nonce: String,
    signature: String,
}

impl HeaderNames {
    pub(crate) fn new(prefix: &str) -> Self {
        let name = |what: &str| format!("{prefix}{what}");
        Self {
            key_id: name("key-id"),
            timestamp: name("timestamp"),
            nonce: name("nonce"),
            signature: name("signature"),
        }
    }

    pub(crate) fn names(&self) -> [&str; 4] {
        [&self.key_id, &self.timestamp, &self.nonce, &self.signature]
    }
}

#[derive(Debug)]
pub(crate) struct Signer {
    secrets: Vec<Secret>,
    identity: Rc<Identity>,
}

impl Signer {
    pub(crate) fn new(secrets: Vec<Secret>, identity: Identity) -> Self {
        Self {
            secrets,
            identity: Rc::new(identity),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Pending {
    scheme: Rc<Keyed>,
    key_id: String,
    nonce: String,
    method: String,
    target: String,
    timestamp: u64,
    mac_bytes: [u8; 32],
    body: Sha256,
}

/// The text that a client signs: five lines, separated by `\n`.
///
/// ```text
/// POST
/// /v1/orders?dry=1
/// 1767225600
/// 5f1d3a7c9be04d21
/// e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
/// ```
///
/// `timestamp` is in seconds since the Unix epoch. `body_sha256` is the digest of the raw body, also if it is empty;
/// the text contains it in lower-case hexadecimal. The signature is HMAC-SHA-256 over these bytes, in hexadecimal.
#[must_use]
pub fn string_to_sign(
    method: &str,
    target: &str,
    timestamp: u64,
    nonce: &str,
    body_sha256: &[u8; 32],
) -> String {
    let mut text = format!("{method}\n{target}\n{timestamp}\n{nonce}\n");
    for byte in body_sha256 {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

impl Keyed {
    pub(crate) fn begin(
        self: &Rc<Self>,
        request: &Request<'_>,
        ports: &Ports<'_>,
    ) -> Option<Result<Pending, Reason>> {
        match request.credential(&self.headers.signature) {
            Single::Absent => None,
            Single::Multiple => Some(Err(Reason::CredentialsAmbiguous)),
            Single::One(signature) => Some(self.read(signature, request, ports)),
        }
    }

    fn read(
        self: &Rc<Self>,
        signature: &[u8],
        request: &Request<'_>,
        ports: &Ports<'_>,
    ) -> Result<Pending, Reason> {
        let text = |name: &str| match request.single(name) {
            Single::One(value) => std::str::from_utf8(value).map_err(|_| Reason::SignatureMalformed),
            Single::Absent => Err(Reason::SignatureMalformed),
            Single::Multiple => Err(Reason::CredentialsAmbiguous),
        };
        let owned = |value: &[u8]| {
            std::str::from_utf8(value)
                .map(str::to_owned)
                .map_err(|_| Reason::SignatureMalformed)
        };
        let mac_bytes = mac_from_hex(signature)?;
        let nonce = text(&self.headers.nonce)?;
        let key_id = text(&self.headers.key_id)?;
        if !NONCE_LENGTH.contains(&nonce.len()) || key_id.len() > MAX_KEY_ID {
            return Err(Reason::SignatureMalformed);
        }
        let digits = text(&self.headers.timestamp)?;
        // `parse` would accept a sign, but the signed text contains only digits.
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Reason::SignatureMalformed);
        }
        let timestamp: u64 = digits.parse().map_err(|_| Reason::SignatureMalformed)?;
        if !self.keys.contains_key(key_id) {
            return Err(Reason::SignatureKeyUnknown);
        }
        self.check_skew(timestamp, ports)?;
        Ok(Pending {
            scheme: Rc::clone(self),
            key_id: key_id.to_owned(),
            nonce: nonce.to_owned(),
            method: owned(request.method())?,
            target: owned(request.path())?,
            timestamp,
            mac_bytes,
            body: Sha256::new(),
        })
    }

    fn check_skew(&self, timestamp: u64, ports: &Ports<'_>) -> Result<(), Reason> {
        let skew = ports.clock.wall().abs_diff(Duration::from_secs(timestamp));
        if skew > self.max_skew {
            Err(Reason::SignatureSkew)
        } else {
            Ok(())
        }
    }
}

impl Pending {
    pub(crate) fn body(&mut self, part: &[u8]) {
        self.body.update(part);
    }

    pub(crate) fn finish(
        self,
        label: &str,
        nonces: Option<&NonceStore>,
        ports: &Ports<'_>,
    ) -> Result<Rc<Identity>, Reason> {
        // Checked again: a body that arrives slowly could outlast the stored nonce.
        self.scheme.check_skew(self.timestamp, ports)?;
        let signer = self
            .scheme
            .keys
            .get(&self.key_id)
            .ok_or(Reason::SignatureKeyUnknown)?;
        let digest: [u8; 32] = self.body.finalize().into();
        let text = string_to_sign(&self.method, &self.target, self.timestamp, &self.nonce, &digest);
        let mac_bytes = self.mac_bytes.into();
        let mut matches = 0;
        for secret in &signer.secrets {
            matches += usize::from(mac(secret)?.chain_update(&text).verify(&mac_bytes).is_ok());
        }
        if matches == 0 {
            return Err(Reason::SignatureMismatch);
        }
        // Only holders of the secret get here, so that no one else can fill the nonce table.
        if let Some(capacity) = self.scheme.nonces {
            let nonce_use = NonceUse {
                entry: label,
                key_id: &self.key_id,
                nonce: &self.nonce,
                timestamp: self.timestamp,
                max_skew: self.scheme.max_skew,
                capacity,
            };
            nonces
                .ok_or(Reason::LimitUnavailable)?
                .record(&nonce_use, ports)?;
        }
        Ok(Rc::clone(&signer.identity))
    }
}
