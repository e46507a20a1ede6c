//! What end-to-end tests, `cargo xtask up` and `cargo xtask bench` share.
//!
//! A real Envoy on free ports ([`envoy`]), a stand-in for the API behind the gate that tells what reached it
//! ([`sample_api`]), an identity provider whose keys can be rotated and whose endpoint can be broken on purpose
//! ([`idp`]), a policy host that answers as it is told ([`policy_peer`]), and what clients need: tokens ([`tokens`]) and signed webhooks ([`sign`]).
//!
//! The servers run on threads of their own and stop when dropped. So the same types serve a plain `fn main`,
//! a `#[test]` and a `#[tokio::test]` of either flavour.
#![forbid(unsafe_code)]

pub mod audit_peer;
pub mod certificates;
pub mod collector;
pub mod envoy;
pub mod http;
pub mod idp;
pub mod keys;
pub mod kms_proxy;
pub mod modules;
pub mod paths;
pub mod policy_host;
pub mod policy_peer;
pub mod ports;
pub mod postgres;
pub mod sample_api;
mod server;
pub mod sign;
pub mod softhsm;
pub mod template;
pub mod tokens;
pub mod wasm;
