//! Signatures from the KMS, each verified before it is handed on.
