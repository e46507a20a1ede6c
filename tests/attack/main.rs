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

mod generated;
mod hosts;
mod tables;
mod tokens;
mod waiting;
mod hanging_files;
mod hostile_components;
mod replayed_manifests;
mod signing_oracle;
mod empty_credential;
mod endless_body;
mod grpc_clients;
mod stale_configuration;
