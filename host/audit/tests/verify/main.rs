//! Any tampering with a log is detected and reported with its code: in SQLite files, in Postgres, and in exports.
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
mod live;
mod manifests;
mod postgres;
mod reader;
mod retirements;
mod support;
