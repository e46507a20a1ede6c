//! Whatever is done to a log is found, and named: against real SQLite files, and against exports.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail this way"
)]

mod checkpoints;
mod events;
mod exports;
mod living;
mod manifests;
mod postgres;
mod reading;
mod retirements;
mod support;
