//! The KMS proxy: signs with keys that never leave a PKCS#11 token.
