//! A private key that signs tokens.

use anyhow::{Context, Result, bail, ensure};
use jwt_simple::prelude::*;
use serde_json::{Map, Value};

/// A signature algorithm for tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    /// The value of a token's `alg` header.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// A private key with its key id.
pub(super) enum SigningKey {
    Rs256(RS256KeyPair),
    Es256(ES256KeyPair),
    EdDsa(Ed25519KeyPair),
}

impl SigningKey {
    pub(super) fn generate(algorithm: Algorithm) -> Result<Self> {
        let key = match algorithm {
            Algorithm::Rs256 => Self::Rs256(RS256KeyPair::generate(2048)?),
            Algorithm::Es256 => Self::Es256(ES256KeyPair::generate()),
            Algorithm::EdDsa => Self::EdDsa(Ed25519KeyPair::generate()),
        };
        Ok(key.with_id())
    }

    /// Parses a private key, JWK or PEM, which must be for the `expected` algorithm. Errors do not contain the text.
    pub(super) fn read(text: &str, expected: Option<Algorithm>) -> Result<Self> {
        let key = if text.trim_start().starts_with('{') {
            Self::from_jwk(text)?
        } else {
            Self::from_pem(text).context(
                "is not a private key for RS256 (2048 bits or more), ES256 or EdDSA, as JWK or PEM",
            )?
        };
        let found = key.algorithm();
        ensure!(
            expected.is_none_or(|expected| expected == found),
            "holds a key for {}, not for the given algorithm; drop --algorithm or name another file",
            found.name()
        );
        Ok(key.with_id())
    }

    fn from_jwk(text: &str) -> Result<Self> {
        let members: Map<String, Value> = serde_json::from_str(text)
            .map_err(|e| anyhow::anyhow!("is not JSON: line {}, column {}", e.line(), e.column()))?;
        ensure!(
            !members.contains_key("keys"),
            "is a key set; a single private key is required"
        );
        ensure!(
            members.contains_key("d"),
            "holds a public key; a private key is required to sign"
        );
        let member = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default();
        let key = match (member("kty"), member("crv")) {
            ("RSA", _) => RS256KeyPair::from_jwk(text).map(Self::Rs256),
            ("EC", "P-256") => ES256KeyPair::from_jwk(text).map(Self::Es256),
            ("OKP", "Ed25519") => Ed25519KeyPair::from_jwk(text).map(Self::EdDsa),
            _ => bail!("is a JWK of an unsupported type; RSA, EC on P-256 and Ed25519 are supported"),
        };
        key.map_err(|error| anyhow::anyhow!("is not a valid private JWK: {error}"))
    }

    fn from_pem(text: &str) -> Option<Self> {
        let rsa = || RS256KeyPair::from_pem(text).map(Self::Rs256);
        let ec = || ES256KeyPair::from_pem(text).map(Self::Es256);
        let ed = || Ed25519KeyPair::from_pem(text).map(Self::EdDsa);
        rsa().or_else(|_| ec()).or_else(|_| ed()).ok()
    }

    /// Sets the key id, if the key has none, to its thumbprint (RFC 7638).
    fn with_id(self) -> Self {
        match self {
            Self::Rs256(key) if key.key_id().is_none() => {
                let id = key.jwk_thumbprint();
                Self::Rs256(key.with_key_id(&id))
            }
            Self::Es256(key) if key.key_id().is_none() => {
                let id = key.jwk_thumbprint();
                Self::Es256(key.with_key_id(&id))
            }
            Self::EdDsa(key) if key.key_id().is_none() => {
                let id = key.jwk_thumbprint();
                Self::EdDsa(key.with_key_id(&id))
            }
            key => key,
        }
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Rs256(_) => Algorithm::Rs256,
            Self::Es256(_) => Algorithm::Es256,
            Self::EdDsa(_) => Algorithm::EdDsa,
        }
    }

    pub(super) fn private_jwk(&self) -> String {
        match self {
            Self::Rs256(key) => key.to_jwk(),
            Self::Es256(key) => key.to_jwk(),
            Self::EdDsa(key) => key.to_jwk(),
        }
    }

    pub(super) fn private_pem(&self) -> Result<String> {
        Ok(match self {
            Self::Rs256(key) => key.to_pem()?,
            Self::Es256(key) => key.to_pem()?,
            Self::EdDsa(key) => key.to_pem(),
        })
    }

    pub(super) fn public_jwk(&self) -> Result<Value> {
        let jwk = match self {
            Self::Rs256(key) => key.public_key().to_jwk(),
            Self::Es256(key) => key.public_key().to_jwk(),
            Self::EdDsa(key) => key.public_key().to_jwk(),
        };
        Ok(serde_json::from_str(&jwk)?)
    }

    /// Signs a token with exactly these claims.
    pub(super) fn sign(&self, claims: &Map<String, Value>) -> Result<String> {
        let claims = JWTClaims {
            issued_at: None,
            expires_at: None,
            invalid_before: None,
            issuer: None,
            subject: None,
            audiences: None,
            jwt_id: None,
            nonce: None,
            custom: claims.clone(),
        };
        match self {
            Self::Rs256(key) => key.sign(claims),
            Self::Es256(key) => key.sign(claims),
            Self::EdDsa(key) => key.sign(claims),
        }
        .context("cannot sign the token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_round_trips_through_jwk_and_pem() {
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256] {
            let key = SigningKey::generate(algorithm).unwrap();
            for text in [key.private_jwk(), key.private_pem().unwrap()] {
                let again = SigningKey::read(&text, Some(algorithm)).unwrap();
                assert_eq!(again.public_jwk().unwrap(), key.public_jwk().unwrap());
            }
            let public = key.public_jwk().unwrap();
            assert!(public["kid"].is_string() && public.get("d").is_none(), "{public}");
        }
    }

    #[test]
    fn only_a_private_key_for_the_algorithm_is_accepted() {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        let public = key.public_jwk().unwrap().to_string();
        let private = key.private_jwk();
        for (text, algorithm, part) in [
            (public.as_str(), None, "public key"),
            (private.as_str(), Some(Algorithm::EdDsa), "ES256"),
            ("{\"keys\": []}", None, "key set"),
            ("{", None, "line 1"),
            ("hunter2", None, "PEM"),
        ] {
            let error = format!("{:#}", SigningKey::read(text, algorithm).err().unwrap());
            assert!(error.contains(part) && !error.contains("hunter2"), "{error}");
        }
    }
}
