//! Servers, processes and credentials shared by the end-to-end tests, `cargo xtask up` and `cargo xtask bench`.
//!
//! - Processes: Envoy ([`envoy`]), the policy host ([`policy_host`]), the KMS proxy ([`kms_proxy`]) and Postgres
//!   ([`postgres`]).
//! - Test servers: the upstream API ([`sample_api`]), an identity provider ([`idp`]), an external authorization server
//!   ([`ext_authz`]), an audit log ([`audit_server`]) and a trace collector ([`collector`]).
//! - Policy modules: those that ship ([`modules`]) and small ones made of text ([`text_modules`]).
//! - What clients need: tokens ([`tokens`]) and request signatures ([`sign`]).
//!
//! What `cargo xtask` does not use is behind the feature `test-servers`: it would make the first minutes longer.
//!
//! Each server runs on its own thread and stops when dropped, so the same types work in a plain `fn main`, a `#[test]`
//! and a `#[tokio::test]` of either flavour.
#![forbid(unsafe_code)]

#[cfg(feature = "test-servers")]
pub mod audit_server;
pub mod certificates;
#[cfg(feature = "test-servers")]
pub mod collector;
pub mod envoy;
#[cfg(feature = "test-servers")]
pub mod ext_authz;
pub mod http;
pub mod idp;
pub mod keys;
pub mod kms_proxy;
pub mod modules;
pub mod paths;
pub mod policy_host;
pub mod ports;
pub mod postgres;
pub mod sample_api;
mod server;
pub mod sign;
pub mod softhsm;
pub mod template;
#[cfg(feature = "test-servers")]
pub mod text_modules;
pub mod tokens;
pub mod wasm;
