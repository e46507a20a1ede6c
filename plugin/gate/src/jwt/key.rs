//! A key that verifies tokens. Its algorithm is fixed when the key is parsed, whatever a token claims later.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jwt_simple::prelude::*;
use p256::ecdsa::signature::Verifier as _;
use sha2::Sha256;
use superboring::pkey::PKey;
use superboring::sign::Verifier as RsaVerifier;

use crate::config::Algorithm;
use crate::ports::BadSignature;
use crate::secret::Secret;

/// A public key, or a shared secret for HS256, for exactly one algorithm.
pub struct VerifyingKey {
    pub(crate) kid: Option<String>,
    material: Material,
    spki: Option<Vec<u8>>,
}

enum Material {
    Rs256(RS256PublicKey),
    Rs384(RS384PublicKey),
    Rs512(RS512PublicKey),
    Ps256(PS256PublicKey),
    Es256(ES256PublicKey),
    Es384(ES384PublicKey),
    EdDsa(Ed25519PublicKey),
    Hs256(Secret),
}

impl VerifyingKey {
    /// Parses a JWK (RFC 7517) for `algorithm`. `None` if it is not a valid signature key for that algorithm: another
    /// type, curve, `use` or `alg`, an RSA modulus under 2048 bits, a point that is not on the curve.
    #[must_use]
    pub fn from_jwk(jwk: &str, kid: Option<String>, algorithm: Algorithm) -> Option<Self> {
        let (material, spki) = match algorithm {
            Algorithm::RS256 => {
                let key = RS256PublicKey::from_jwk(jwk).ok()?;
                let spki = key.to_der().ok();
                (Material::Rs256(key), spki)
            }
            Algorithm::RS384 => {
                let key = RS384PublicKey::from_jwk(jwk).ok()?;
                let spki = key.to_der().ok();
                (Material::Rs384(key), spki)
            }
            Algorithm::RS512 => {
                let key = RS512PublicKey::from_jwk(jwk).ok()?;
                let spki = key.to_der().ok();
                (Material::Rs512(key), spki)
            }
            Algorithm::PS256 => (Material::Ps256(PS256PublicKey::from_jwk(jwk).ok()?), None),
            Algorithm::ES256 => {
                let key = ES256PublicKey::from_jwk(jwk).ok()?;
                let spki = key.public_key().to_der().ok();
                (Material::Es256(key), spki)
            }
            Algorithm::ES384 => {
                let key = ES384PublicKey::from_jwk(jwk).ok()?;
                let spki = key.public_key().to_der().ok();
                (Material::Es384(key), spki)
            }
            Algorithm::EdDSA => (Material::EdDsa(Ed25519PublicKey::from_jwk(jwk).ok()?), None),
            // Key sets are public: a shared secret must not come from one.
            Algorithm::HS256 => return None,
        };
        Some(Self { kid, material, spki })
    }

    pub(crate) fn from_secret(secret: &Secret) -> Self {
        Self {
            kid: None,
            material: Material::Hs256(secret.clone()),
            spki: None,
        }
    }

    /// The algorithm of this key.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Rs256(_) => Algorithm::RS256,
            Material::Rs384(_) => Algorithm::RS384,
            Material::Rs512(_) => Algorithm::RS512,
            Material::Ps256(_) => Algorithm::PS256,
            Material::Es256(_) => Algorithm::ES256,
            Material::Es384(_) => Algorithm::ES384,
            Material::EdDsa(_) => Algorithm::EdDSA,
            Material::Hs256(_) => Algorithm::HS256,
        }
    }

    /// The public key as DER SubjectPublicKeyInfo, for a proxy's own verifier. Only for RS* and ES*.
    #[must_use]
    pub fn spki(&self) -> Option<&[u8]> {
        self.spki.as_deref()
    }

    /// Verifies the signature of a compact-serialised token in pure Rust, over its bytes as they are. The gate itself
    /// reads the token's contents, in the same way for every verifier.
    ///
    /// # Errors
    /// [`BadSignature`] if the token was not signed by this key with this key's algorithm.
    pub fn verify(&self, token: &str) -> Result<(), BadSignature> {
        let (signed, signature) = super::split_token(token).ok_or(BadSignature)?;
        let valid = match &self.material {
            Material::Rs256(key) => rsa(key, signed, &signature),
            Material::Rs384(key) => rsa(key, signed, &signature),
            Material::Rs512(key) => rsa(key, signed, &signature),
            Material::Ps256(key) => rsa(key, signed, &signature),
            Material::Es256(key) => p256::ecdsa::Signature::from_slice(&signature)
                .and_then(|signature| key.public_key().as_ref().verify(signed.as_bytes(), &signature))
                .is_ok(),
            Material::Es384(key) => p384::ecdsa::Signature::from_slice(&signature)
                .and_then(|signature| key.public_key().as_ref().verify(signed.as_bytes(), &signature))
                .is_ok(),
            Material::EdDsa(key) => ed25519_compact::Signature::from_slice(&signature)
                .and_then(|signature| key.public_key().as_ref().verify(signed, &signature))
                .is_ok(),
            Material::Hs256(secret) => Hmac::<Sha256>::new_from_slice(secret.expose())
                .is_ok_and(|mac| mac.chain_update(signed).verify_slice(&signature).is_ok()),
        };
        if valid { Ok(()) } else { Err(BadSignature) }
    }
}

/// RSASSA-PKCS1-v1_5 or RSASSA-PSS (RFC 8017, section 8), depending on the key's type.
fn rsa<K: RSAPublicKeyLike>(key: &K, signed: &str, signature: &[u8]) -> bool {
    let verify = || {
        let verifier_key = PKey::from_rsa(key.public_key().as_ref().clone())?;
        let mut verifier = RsaVerifier::new(K::hash(), &verifier_key)?;
        verifier.set_rsa_padding(key.padding_scheme())?;
        verifier.update(signed.as_bytes())?;
        verifier.verify(signature)
    };
    verify().unwrap_or(false)
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VerifyingKey({}, kid {:?})", self.algorithm().name(), self.kid)
    }
}
