//! Attacks that once succeeded, and their sisters: one module a class. Each test failed before its class was mended.
//!
//! `cargo xtask attack` runs these alone; `cargo xtask test` runs them with everything else.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "for tests: what does not work ends the test"
)]

mod empty_credential;
mod endless_body;
mod generated;
mod grpc_clients;
mod hanging_files;
mod hostile_components;
mod hosts;
mod identity_headers;
mod methods;
mod replayed_manifests;
mod signing_oracle;
mod stale_configuration;
mod tables;
mod tokens;
mod waiting;
