//! Attacks that once succeeded, and variants of them, one module per class. Each test failed before its class was fixed.
//!
//! `cargo xtask attack` runs only these; `cargo xtask test` includes them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "for tests: a failure ends the test"
)]

mod ambiguous_hosts;
mod ambiguous_methods;
mod blocking_files;
mod empty_credential;
mod endless_body;
mod grpc_clients;
mod hostile_components;
mod identity_headers;
mod jwks_waiting;
mod replayed_manifests;
mod shared_tables;
mod signature_paths;
mod signing_oracle;
mod stale_configuration;
mod token_generator;
