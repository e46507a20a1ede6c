//! The audit log: its guarantees, its stores, and what verification finds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failure ends the test"
)]

mod append;
mod crash;
mod postgres;
mod support;
mod tampering;
mod verify;
