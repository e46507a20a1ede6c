//! What the end-to-end tests in `tests/` share: an Envoy with the filter between a client and the sample API, requests
//! through reqwest, and requests written byte by byte.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "for tests: a failure ends the test"
)]

mod fixture;
mod http1_connection;
mod http2_connection;
mod http2_stream;
mod request;

pub use fixture::{DIRECT, Fixture, Setup, audited_gate_yaml, gate_yaml};
pub use http1_connection::{Http1Connection, exchange};
pub use http2_connection::Http2Connection;
pub use http2_stream::{Http2Stream, headers_frame};
pub use request::{Request, Response, Version, client};
