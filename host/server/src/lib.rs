//! The policy host: a process beside Envoy that answers `envoy.service.auth.v3.Authorization/Check` with the policies
//! of [`postern_policy`], signs through [`postern_signing`], and writes the audit log of [`postern_audit`].
//!
//! [`Settings`] are parsed from `host.yaml`; a [`Host`] is started from them and serves until it is stopped. Gates use
//! its listeners: `Check` over gRPC, `/sign`, `/sign/manifest` and `/v1/audit` over HTTP; operators use the listener of
//! `admin`. If the host cannot decide, sign or record, it responds with an error, never with an allow decision.

mod admin;
mod audited_signer;
mod check;
mod gates;
mod health;
mod host;
mod inspection;
mod license;
mod listener_limits;
mod loader;
mod log_throttle;
mod metrics;
mod policy_watch;
mod process;
mod recorder;
pub mod settings;
mod signer_watch;
mod signing_services;
mod start_error;
mod trace;

pub use host::{Host, LostEvents};
pub use inspection::{Inspection, inspect};
pub use process::runtime;
pub use settings::Settings;
pub use start_error::StartError;
pub use trace::TARGET as TRACE_TARGET;
