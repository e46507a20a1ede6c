//! Requests through a real Envoy.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failure ends the test"
)]

mod audit;
mod config;
mod credentials;
mod ext_authz;
mod jwks;
mod keyed;
mod limits;
mod malformed;
mod policy_host;
mod policy_outage;
mod signing_chain;
mod tokens;
mod trace;
