//! A policy module built with spin-sdk: maintenance windows and plans.
//!
//! It is an HTTP service: the gate sends it the request that it asks about, with what it knows of it in headers that
//! begin with `x-postern-`. A response of 2xx lets the request pass; any other is the refusal as the client gets it.

mod config;
mod decision;
mod window;

// Natively there is no host to serve, and no need to build spin-sdk.
#[cfg(target_family = "wasm")]
mod service;

pub use decision::{ConfigError, Decision, PolicyInput, decide};
