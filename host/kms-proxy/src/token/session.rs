//! A session of a token: finds, checks and uses keys.

use std::collections::HashMap;

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::eddsa::{EddsaParams, EddsaSignatureScheme};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use ed25519_compact::{PublicKey, Signature};

use super::error::TokenError;
use super::point;

/// Each key signs this before it serves, to prove that it can sign and that its public key matches.
const SELF_TEST: &[u8] = b"postern kms-proxy: self-test; this signature vouches for nothing";

/// A session. Object handles are looked up in each session: tokens may assign different ones.
#[derive(Debug)]
pub struct TokenSession {
    session: Session,
    handles: HashMap<String, ObjectHandle>,
}

impl TokenSession {
    pub(super) fn new(session: Session) -> Self {
        Self {
            session,
            handles: HashMap::new(),
        }
    }

    /// Returns the public key of a private key, after checking that the private key exists, that it cannot leave the
    /// token (unless `lenient`), and that its signature verifies.
    ///
    /// # Errors
    /// If a check fails.
    pub fn examine(&mut self, label: &str, lenient: bool) -> Result<PublicKey, TokenError> {
        let private = self.find(label)?;
        if let Some(how) = self.export_path(private)? {
            if !lenient {
                return Err(TokenError::Exportable {
                    label: label.to_owned(),
                    how,
                });
            }
            tracing::warn!(label, how, "DEVELOPMENT: this private key can leave the token");
        } else if self.was_imported(private)? {
            tracing::warn!(
                label,
                "this private key was not generated in the token: whoever imported it may have a copy"
            );
        }
        let key = self.public_key(label, private)?;
        self.sign(label, &key, SELF_TEST)?;
        Ok(key)
    }

    /// Checks that the label still names the same key.
    pub(crate) fn check_unchanged(&mut self, label: &str, known: &PublicKey) -> Result<(), TokenError> {
        let private = self.find(label)?;
        if self.public_key(label, private)? == *known {
            Ok(())
        } else {
            Err(TokenError::KeyChanged(label.to_owned()))
        }
    }

    /// Signs with plain Ed25519 (RFC 8032, section 5.1), and verifies the signature: a faulty token, or one that uses
    /// another scheme, would release a wrong signature, and with some faults its key.
    ///
    /// # Errors
    /// If the token does not sign, or the signature is wrong.
    pub fn sign(&mut self, label: &str, key: &PublicKey, payload: &[u8]) -> Result<Signature, TokenError> {
        let handle = match self.handles.get(label) {
            Some(handle) => *handle,
            None => self.find(label)?,
        };
        let plain = Mechanism::Eddsa(EddsaParams::new(EddsaSignatureScheme::Ed25519));
        let bytes = self.session.sign(&plain, handle, payload)?;
        verified(label, key, payload, &bytes)
    }

    /// Finds the private key with a label, which must be unique.
    fn find(&mut self, label: &str) -> Result<ObjectHandle, TokenError> {
        self.handles.remove(label);
        let found = self.objects(ObjectClass::PRIVATE_KEY, Attribute::Label(label.into()))?;
        match *found.as_slice() {
            [one] => {
                self.handles.insert(label.to_owned(), one);
                Ok(one)
            }
            [] => Err(TokenError::NoKey(label.to_owned())),
            _ => Err(TokenError::ManyKeys {
                label: label.to_owned(),
                count: found.len(),
            }),
        }
    }

    fn objects(&self, class: ObjectClass, which: Attribute) -> Result<Vec<ObjectHandle>, TokenError> {
        let template = [
            Attribute::Class(class),
            Attribute::KeyType(KeyType::EC_EDWARDS),
            which,
        ];
        Ok(self.session.find_objects(&template)?)
    }

    /// How the private key could leave the token; `None` if it cannot. A missing attribute counts as unsafe.
    fn export_path(&self, private: ObjectHandle) -> Result<Option<&'static str>, TokenError> {
        let types = [AttributeType::Sensitive, AttributeType::Extractable];
        let attributes = self.session.get_attributes(private, &types)?;
        Ok(if !attributes.contains(&Attribute::Extractable(false)) {
            Some("is extractable (CKA_EXTRACTABLE)")
        } else if !attributes.contains(&Attribute::Sensitive(true)) {
            Some("can be read in plain text (CKA_SENSITIVE is false)")
        } else {
            None
        })
    }

    /// Whether the private key was imported, or was extractable before. Missing attributes count as safe.
    fn was_imported(&self, private: ObjectHandle) -> Result<bool, TokenError> {
        let types = [AttributeType::AlwaysSensitive, AttributeType::NeverExtractable];
        let attributes = self.session.get_attributes(private, &types)?;
        Ok(attributes.contains(&Attribute::AlwaysSensitive(false))
            || attributes.contains(&Attribute::NeverExtractable(false)))
    }

    /// Finds the public key of a private key: the object with its label, or with its id.
    fn public_key(&self, label: &str, private: ObjectHandle) -> Result<PublicKey, TokenError> {
        let mut found = self.objects(ObjectClass::PUBLIC_KEY, Attribute::Label(label.into()))?;
        if found.len() != 1 {
            let id = self.session.get_attributes(private, &[AttributeType::Id])?;
            found = match id.into_iter().next() {
                Some(Attribute::Id(id)) if !id.is_empty() => {
                    self.objects(ObjectClass::PUBLIC_KEY, Attribute::Id(id))?
                }
                _ => Vec::new(),
            };
        }
        let [public] = *found.as_slice() else {
            return Err(TokenError::NoPublicKey(label.to_owned()));
        };
        let attributes = self.session.get_attributes(public, &[AttributeType::EcPoint])?;
        let Some(Attribute::EcPoint(point)) = attributes.first() else {
            return Err(TokenError::NoPublicKey(label.to_owned()));
        };
        point::public_key(point).map_err(|error| TokenError::InvalidPoint {
            label: label.to_owned(),
            error,
        })
    }
}

/// Returns the signature if it verifies.
fn verified(label: &str, key: &PublicKey, payload: &[u8], bytes: &[u8]) -> Result<Signature, TokenError> {
    Signature::from_slice(bytes)
        .ok()
        .filter(|signature| key.verify(payload, signature).is_ok())
        .ok_or_else(|| TokenError::WrongSignature(label.to_owned()))
}

#[cfg(test)]
mod tests {
    use ed25519_compact::{KeyPair, Seed};

    use super::*;

    #[test]
    fn only_a_signature_of_this_key_over_this_payload_passes() {
        let (pair, other) = (
            KeyPair::from_seed(Seed::new([1; 32])),
            KeyPair::from_seed(Seed::new([2; 32])),
        );
        let good = pair.sk.sign(b"payload", None);
        assert_eq!(verified("a", &pair.pk, b"payload", &good[..]).unwrap(), good);
        let mut flipped = good.to_vec();
        flipped[40] ^= 1;
        for (why, bytes) in [
            ("another key's", other.sk.sign(b"payload", None).to_vec()),
            ("of another payload", pair.sk.sign(b"payloads", None).to_vec()),
            ("a bit flipped", flipped),
            ("too short", good[..63].to_vec()),
            ("too long", [&good[..], &[0]].concat()),
            ("empty", Vec::new()),
        ] {
            let refused = verified("a", &pair.pk, b"payload", &bytes);
            assert!(matches!(refused, Err(TokenError::WrongSignature(_))), "{why}");
        }
    }
}
