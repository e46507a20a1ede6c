//! The policy host: one process beside Envoy that answers `envoy.service.auth.v3.Authorization/Check` with the policies
//! of [`postern_policy`], and tells how they fare.
//!
//! [`Settings`] reads `host.yaml`; a [`Host`] is started from them and serves until it is stopped. Gates reach it on its
//! gRPC listeners, which offer `Check` and health and nothing else; operators reach it on the listener of `admin`.
//! Whatever cannot be decided is answered with an error, never with an allowance.

mod admin;
mod check;
mod host;
mod inspection;
mod listen;
mod loader;
mod metrics;
mod problem;
mod quiet;
mod serve;
pub mod settings;
mod tasks;
mod watch;

pub use host::{Host, StartError};
pub use inspection::{Inspection, inspect};
pub use listen::ListenError;
pub use serve::{runtime, serve};
pub use settings::{Address, Settings, SettingsError};
