//! The servers of the policy host, as gates, operators and probes meet them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failure ends the test"
)]

mod admin;
mod checks;
mod connections;
mod files;
mod gates;
mod health;
mod start_and_stop;
mod support;
