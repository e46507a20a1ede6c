//! Signatures verified by the proxy's own cryptography where it offers it, in pure Rust otherwise.
//!
//! Envoy's foreign function `verify_signature` runs BoringSSL: forty times faster for RSA, nine times for ECDSA, than
//! pure Rust inside the VM. It is used only after it verified published examples correctly, valid and invalid ones.

use p256::ecdsa::Signature as P256Signature;
use p384::ecdsa::Signature as P384Signature;
use postern_gate::VerifyingKey;
use postern_gate::config::Algorithm;
use postern_gate::ports::{BadSignature, PureRust, Verifier};
use postern_gate::split_token;
use prost::Message;
use proxy_wasm::hostcalls;

/// The function's argument, `envoy.source.extensions.common.wasm.VerifySignatureArguments`.
#[derive(Clone, PartialEq, Message)]
struct VerifySignatureArguments {
    #[prost(string, tag = "1")]
    hash_function: String,
    /// DER SubjectPublicKeyInfo.
    #[prost(bytes = "vec", tag = "2")]
    public_key: Vec<u8>,
    /// As is for RSA, DER for ECDSA.
    #[prost(bytes = "vec", tag = "3")]
    signature: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    text: Vec<u8>,
}

/// Its result, `envoy.source.extensions.common.wasm.VerifySignatureResult`.
#[derive(Clone, PartialEq, Message)]
struct VerifySignatureResult {
    #[prost(bool, tag = "1")]
    result: bool,
    #[prost(string, tag = "2")]
    error: String,
}

/// Verifies in the proxy for those families of algorithms that [`probe`](Self::probe) found to work.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProxyVerifier {
    rsa: bool,
    ecdsa: bool,
}

impl ProxyVerifier {
    /// Has the proxy verify the examples of RFC 7515, appendices A.2 and A.3, and the same with one bit changed.
    pub(crate) fn probe() -> Self {
        Self {
            rsa: knows(Algorithm::RS256, RS256_KEY, RS256_TOKEN),
            ecdsa: knows(Algorithm::ES256, ES256_KEY, ES256_TOKEN),
        }
    }

    /// Which algorithms the proxy verifies, for the log.
    pub(crate) fn describe(self) -> &'static str {
        match (self.rsa, self.ecdsa) {
            (true, true) => "RS* and ES* signatures are verified by the proxy",
            (true, false) => "RS* signatures are verified by the proxy, ES* in the VM",
            (false, true) => "ES* signatures are verified by the proxy, RS* in the VM",
            (false, false) => {
                "the proxy offers no verify_signature: all signatures are verified in the VM, slowly"
            }
        }
    }

    fn offers(self, algorithm: Algorithm) -> bool {
        match algorithm {
            Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512 => self.rsa,
            Algorithm::ES256 | Algorithm::ES384 => self.ecdsa,
            Algorithm::PS256 | Algorithm::EdDSA | Algorithm::HS256 => false,
        }
    }
}

impl Verifier for ProxyVerifier {
    fn verify(&self, key: &VerifyingKey, token: &str) -> Result<(), BadSignature> {
        if !self.offers(key.algorithm()) {
            return PureRust.verify(key, token);
        }
        match by_proxy(key, token) {
            Some(true) => Ok(()),
            Some(false) => Err(BadSignature),
            // The proxy failed, which says nothing about the signature.
            None => PureRust.verify(key, token),
        }
    }
}

fn knows(algorithm: Algorithm, jwk: &str, token: &str) -> bool {
    let Some(key) = VerifyingKey::from_jwk(jwk, None, algorithm) else {
        return false;
    };
    // The payload's first character is changed: still base64url, no longer what was signed.
    let tampered = token.replacen(".ey", ".fy", 1);
    by_proxy(&key, token) == Some(true) && tampered != token && by_proxy(&key, &tampered) == Some(false)
}

/// The proxy's result; `None` if it failed. A signature that cannot be encoded is invalid.
fn by_proxy(key: &VerifyingKey, token: &str) -> Option<bool> {
    let (text, signature) = split_token(token)?;
    let (hash, signature) = match key.algorithm() {
        Algorithm::RS256 => ("sha256", Some(signature)),
        Algorithm::RS384 => ("sha384", Some(signature)),
        Algorithm::RS512 => ("sha512", Some(signature)),
        // JOSE has r and s side by side (RFC 7518, section 3.4).
        Algorithm::ES256 => (
            "sha256",
            P256Signature::from_slice(&signature)
                .ok()
                .map(|s| s.to_der().as_bytes().to_vec()),
        ),
        Algorithm::ES384 => (
            "sha384",
            P384Signature::from_slice(&signature)
                .ok()
                .map(|s| s.to_der().as_bytes().to_vec()),
        ),
        Algorithm::PS256 | Algorithm::EdDSA | Algorithm::HS256 => return None,
    };
    let Some(signature) = signature else {
        return Some(false);
    };
    let arguments = VerifySignatureArguments {
        hash_function: hash.to_owned(),
        public_key: key.spki()?.to_vec(),
        signature,
        text: text.as_bytes().to_vec(),
    };
    let result =
        hostcalls::call_foreign_function("verify_signature", Some(&arguments.encode_to_vec())).ok()??;
    VerifySignatureResult::decode(result.as_slice())
        .ok()
        .map(|decoded| decoded.result)
}

const RS256_KEY: &str = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
const RS256_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
const ES256_KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
const ES256_TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
