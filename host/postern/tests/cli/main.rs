//! The command line, as its users run it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a failure ends the test"
)]

mod audit;
mod audit_backup;
mod audit_formats;
mod audit_proof;
mod check;
mod kms_proxy;
mod make;
mod policy_author;
mod policy_manifest;
mod policy_module;
mod signer;
mod signing;
mod support;
mod try_credentials;
mod try_requests;
