//! A change of signer, on record: one statement, signed by both.

use std::time::SystemTime;

use postern_signers::{Refusal, write_key};
use serde_json::json;

use crate::error::SigningError;
use crate::manifest;
use crate::mode::Mode;
use crate::signing::{Signed, Signing};

/// A statement that one signer follows another, signed by both. Whoever trusts the old one's key learns the new one's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// What both signed: the canonical form (RFC 8785) of `{"new": id, "new_key": "ed25519:…", "old": id, "time": …}`,
    /// the time in UTC, by the second (RFC 3339).
    pub statement: Vec<u8>,
    /// The time that it says.
    pub time: SystemTime,
    /// The old signer's signature.
    pub old: Signed,
    /// The new signer's signature.
    pub new: Signed,
}

impl Signing {
    /// Has the statement that `new` follows `old` signed by both, through the proxy, which must take `signer_id` in a
    /// request. Both must be active signers of the registry: the new one is added before, the old one retired after.
    ///
    /// # Errors
    /// If either is not in the registry or does not sign. Nothing of the registry is changed either way.
    pub async fn rotate(&self, old: &str, new: &str) -> Result<Rotation, SigningError> {
        if self.mode() == Mode::Development {
            return Err(SigningError::Development);
        }
        if old == new {
            return Err(SigningError::SameSigner);
        }
        let registry = self.registry();
        let key = |id: &str| {
            let signer = registry.get(id).ok_or_else(|| SigningError::Refused {
                signer_id: id.to_owned(),
                refusal: Refusal::Unknown,
            });
            signer.map(|signer| write_key(&signer.key))
        };
        key(old)?;
        let time = SystemTime::now();
        let statement = manifest::canonical(&json!({
            "new": new,
            "new_key": key(new)?,
            "old": old,
            "time": humantime::format_rfc3339_seconds(time).to_string(),
        }))?;
        // The new one first: if its key is not there yet, the old one has said nothing.
        let by_new = self.sign_as(Some(new), &statement).await?;
        let by_old = self.sign_as(Some(old), &statement).await?;
        Ok(Rotation {
            statement,
            time,
            old: by_old,
            new: by_new,
        })
    }
}
