//! What the end-to-end tests in `tests/` share: an Envoy with the filter between a client and the sample API, calls
//! through reqwest and calls written byte by byte.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "for tests: what does not work ends the test"
)]

mod call;
mod fixture;
mod frames;
mod raw;
mod streams;

pub use call::{Answer, Call, Version, client};
pub use fixture::{DIRECT, Fixture, Setup, audited_gate_yaml, gate_yaml};
pub use frames::{Http2, headers_frame};
pub use raw::{Connection, exchange};
pub use streams::Streams;
