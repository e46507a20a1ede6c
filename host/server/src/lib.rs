//! The policy host: one process beside Envoy that answers `envoy.service.auth.v3.Authorization/Check` with the policies
//! of [`postern_policy`], has things signed through [`postern_signing`], and keeps the log of [`postern_audit`].
//!
//! [`Settings`] reads `host.yaml`; a [`Host`] is started from them and serves until it is stopped. Gates reach it on its
//! listeners: `Check` over gRPC, `/sign`, `/sign/manifest` and `/v1/audit` over HTTP; operators reach it on the listener
//! of `admin`. Whatever cannot be decided, signed or recorded is answered with an error, never with an allowance.

mod admin;
mod audited_signer;
mod bounds;
mod check;
mod gates;
mod health;
mod host;
mod inspection;
mod license;
mod loader;
mod log_throttle;
mod metrics;
mod process;
mod record;
pub mod settings;
mod signers;
mod signing_services;
mod trace;
mod watch;

pub use host::{Host, Lost, StartError};
pub use inspection::{Inspection, inspect};
pub use process::runtime;
pub use settings::Settings;
pub use trace::TARGET as TRACE_TARGET;
