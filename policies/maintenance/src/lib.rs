//! A policy module built with spin-sdk: maintenance windows and plans.
//!
//! It is an HTTP service. The host sends it the request to decide on, with the caller's identity and other context in
//! headers that begin with `x-postern-`. A 2xx response allows the request. The client receives any other response as the
//! denial.

mod config;
mod decision;
mod window;

// Native builds have no host, and need not build spin-sdk.
#[cfg(target_family = "wasm")]
mod service;

pub use decision::{ConfigError, Decision, PolicyInput, decide};
