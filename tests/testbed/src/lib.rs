//! Servers, processes and credentials shared by the end-to-end tests, `cargo xtask up` and `cargo xtask bench`.
//!
//! - Processes: Envoy ([`envoy`]), the policy host ([`policy_host`]), the KMS proxy ([`kms_proxy`]) and Postgres
//!   ([`postgres`]).
//! - Test servers: the upstream API ([`sample_api`]), an identity provider ([`idp`]), an external authorization server
//!   ([`ext_authz`]), an audit log ([`audit_server`]) and a trace collector ([`collector`]).
//! - What clients need: tokens ([`tokens`]) and request signatures ([`sign`]).
//!
//! Each server runs on its own thread and stops when dropped, so the same types work in a plain `fn main`, a `#[test]`
//! and a `#[tokio::test]` of either flavour.
#![forbid(unsafe_code)]

pub mod audit_server;
pub mod certificates;
pub mod collector;
pub mod envoy;
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
pub mod tokens;
pub mod wasm;
