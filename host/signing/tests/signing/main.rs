//! The client of the KMS proxy, against servers of its protocol.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failure ends the test"
)]

mod failures;
mod formats;
mod latency;
mod manifest;
mod readiness;
mod retries;
mod rotation;
mod support;
mod tls;
mod uses;
