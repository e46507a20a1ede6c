//! The signing keys of an issuer, and the JWK set that publishes them.

use std::sync::OnceLock;

use jwt_simple::prelude::*;
use serde_json::{Map, Value, json};

/// A key cannot be generated, encoded or used.
pub type KeyError = jwt_simple::Error;

/// The signature algorithms that a key set has a key for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Alg {
    /// RSA PKCS#1 v1.5 with SHA-256.
    Rs256,
    /// RSA PKCS#1 v1.5 with SHA-384.
    Rs384,
    /// RSA PKCS#1 v1.5 with SHA-512.
    Rs512,
    /// RSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Alg {
    /// All algorithms.
    pub const ALL: [Self; 7] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The `alg` of JOSE, e.g. `RS256`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// One key per algorithm. The RSA algorithms share one key, published once for each of them.
#[derive(Debug)]
pub struct KeySet {
    generation: u64,
    rs256: RS256KeyPair,
    rs384: RS384KeyPair,
    rs512: RS512KeyPair,
    ps256: PS256KeyPair,
    es256: ES256KeyPair,
    es384: ES384KeyPair,
    eddsa: Ed25519KeyPair,
}

/// The id of a key in the set of a generation, e.g. `rs256-1`.
fn key_id(alg: Alg, generation: u64) -> String {
    format!("{}-{generation}", alg.name().to_ascii_lowercase())
}

/// The RSA key of every first generation in this process, as DER. Generating one takes longer than all other keys
/// together, and most tests need only one.
fn shared_rsa_key() -> Result<Vec<u8>, KeyError> {
    static KEY: OnceLock<Vec<u8>> = OnceLock::new();
    if let Some(key) = KEY.get() {
        return Ok(key.clone());
    }
    let new = RS256KeyPair::generate(2048)?.to_der()?;
    Ok(KEY.get_or_init(|| new).clone())
}

impl KeySet {
    /// Generates a first generation, with the ids `rs256-1`, `es256-1` and so on. All first generations of a process
    /// share the RSA key.
    ///
    /// # Errors
    ///
    /// When a key cannot be generated.
    pub fn generate() -> Result<Self, KeyError> {
        Self::with_rsa_key(1, &shared_rsa_key()?)
    }

    /// Generates the next generation: all keys and ids are new.
    ///
    /// # Errors
    ///
    /// When a key cannot be generated.
    pub fn next(&self) -> Result<Self, KeyError> {
        Self::with_rsa_key(self.generation + 1, &RS256KeyPair::generate(2048)?.to_der()?)
    }

    fn with_rsa_key(generation: u64, rsa: &[u8]) -> Result<Self, KeyError> {
        let id = |alg| key_id(alg, generation);
        Ok(Self {
            generation,
            rs256: RS256KeyPair::from_der(rsa)?.with_key_id(&id(Alg::Rs256)),
            rs384: RS384KeyPair::from_der(rsa)?.with_key_id(&id(Alg::Rs384)),
            rs512: RS512KeyPair::from_der(rsa)?.with_key_id(&id(Alg::Rs512)),
            ps256: PS256KeyPair::from_der(rsa)?.with_key_id(&id(Alg::Ps256)),
            es256: ES256KeyPair::generate().with_key_id(&id(Alg::Es256)),
            es384: ES384KeyPair::generate().with_key_id(&id(Alg::Es384)),
            eddsa: Ed25519KeyPair::generate().with_key_id(&id(Alg::EdDsa)),
        })
    }

    /// The id of the key for an algorithm.
    #[must_use]
    pub fn key_id(&self, alg: Alg) -> String {
        key_id(alg, self.generation)
    }

    /// The public key for an algorithm, as a JWK with `kid`, `alg` and `use`.
    #[must_use]
    pub fn public_jwk(&self, alg: Alg) -> Value {
        let jwk = match alg {
            Alg::Rs256 => self.rs256.public_key().to_jwk(),
            Alg::Rs384 => self.rs384.public_key().to_jwk(),
            Alg::Rs512 => self.rs512.public_key().to_jwk(),
            Alg::Ps256 => self.ps256.public_key().to_jwk(),
            Alg::Es256 => self.es256.public_key().to_jwk(),
            Alg::Es384 => self.es384.public_key().to_jwk(),
            Alg::EdDsa => self.eddsa.public_key().to_jwk(),
        };
        // jwt-simple formats the JWK as JSON, so parsing does not fail.
        serde_json::from_str(&jwk).unwrap_or_default()
    }

    /// The public keys of all algorithms as a JWK set.
    #[must_use]
    pub fn jwks_json(&self) -> String {
        self.jwks_json_of(&Alg::ALL)
    }

    /// The public keys of some algorithms as a JWK set.
    #[must_use]
    pub fn jwks_json_of(&self, algs: &[Alg]) -> String {
        let keys: Vec<Value> = algs.iter().map(|alg| self.public_jwk(*alg)).collect();
        json!({ "keys": keys }).to_string()
    }

    /// The RSA public key as PEM (SPKI), which an attacker would use as an HMAC secret.
    ///
    /// # Errors
    ///
    /// When the key cannot be encoded.
    pub fn rsa_public_pem(&self) -> Result<String, KeyError> {
        self.rs256.public_key().to_pem()
    }

    /// Signs a token with exactly these claims and the id of the key in its header.
    ///
    /// # Errors
    ///
    /// When the claims are not a JSON object, or signing fails.
    pub fn sign(&self, alg: Alg, claims: &Value) -> Result<String, KeyError> {
        let claims = custom_claims(claims)?;
        match alg {
            Alg::Rs256 => self.rs256.sign(claims),
            Alg::Rs384 => self.rs384.sign(claims),
            Alg::Rs512 => self.rs512.sign(claims),
            Alg::Ps256 => self.ps256.sign(claims),
            Alg::Es256 => self.es256.sign(claims),
            Alg::Es384 => self.es384.sign(claims),
            Alg::EdDsa => self.eddsa.sign(claims),
        }
    }

    /// [`Self::sign`] for claims that are an object.
    ///
    /// # Panics
    ///
    /// When [`Self::sign`] returns an error.
    #[must_use]
    pub fn mint(&self, alg: Alg, claims: &Value) -> String {
        #[expect(clippy::expect_used, reason = "for tests: a failure ends the test")]
        self.sign(alg, claims).expect("claims that can be signed")
    }
}

/// Claims of jwt-simple with only custom members, so that it adds and converts nothing.
fn custom_claims(claims: &Value) -> Result<JWTClaims<Map<String, Value>>, KeyError> {
    let custom = claims
        .as_object()
        .ok_or_else(|| KeyError::msg("claims must be a JSON object"))?
        .clone();
    Ok(JWTClaims {
        issued_at: None,
        expires_at: None,
        invalid_before: None,
        issuer: None,
        subject: None,
        audiences: None,
        jwt_id: None,
        nonce: None,
        custom,
    })
}

#[cfg(test)]
mod tests;
