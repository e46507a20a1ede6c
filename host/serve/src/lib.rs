//! What every server of Postern needs.
//!
//! A process has so many file descriptors, and whoever reaches a port can use them up with connections that ask nothing.
//! So each listener has a bound on its connections ([`Connections`]), those of Unix sockets and operators keep a share
//! that a TCP port cannot take ([`Shares`]), and a connection that asks nothing, or stops in the middle, ends. [`Tasks`]
//! serves [`Listener`]s within these bounds, with [TLS](tls) or without; [`Process`] adds the signals. What waits for a
//! turn waits in an [`AdmissionQueue`], and what is logged in a [`LogQueue`].
//!
//! Features, so that nobody compiles what they do not use: `http` (listeners, TLS, bearer tokens, problem documents),
//! `log` (the log of a process), `pem` (certificates and keys in PEM), `process` (signals), `settings` (files of settings
//! and the secrets that they name), `watch` (changes of files).
#![forbid(unsafe_code)]
#![warn(missing_docs)]

#[cfg(feature = "http")]
mod accept;
#[cfg(feature = "http")]
mod address;
mod admission_queue;
#[cfg(feature = "http")]
mod bearer;
#[cfg(feature = "http")]
mod connections;
#[cfg(feature = "watch")]
mod file_watcher;
#[cfg(feature = "http")]
mod idle;
#[cfg(feature = "http")]
mod listen;
#[cfg(feature = "log")]
pub mod log;
#[cfg(feature = "log")]
mod log_queue;
#[cfg(feature = "http")]
mod open_files;
#[cfg(feature = "pem")]
pub mod pem;
#[cfg(feature = "http")]
mod problem;
#[cfg(feature = "process")]
mod process;
#[cfg(feature = "settings")]
mod settings_file;
#[cfg(feature = "http")]
mod socket_file;
#[cfg(feature = "http")]
mod tasks;
#[cfg(feature = "http")]
pub mod tls;
#[cfg(feature = "http")]
mod token_digest;
#[cfg(feature = "settings")]
mod variables;

#[cfg(feature = "http")]
pub use address::{Address, AddressError};
pub use admission_queue::{AdmissionQueue, NotAdmitted, Turn};
#[cfg(feature = "http")]
pub use bearer::{Token, is_ambiguous, token};
#[cfg(feature = "http")]
pub use connections::{Connection, ConnectionMetrics, Connections};
#[cfg(feature = "watch")]
pub use file_watcher::{FileWatcher, Unwatched, WatchedFiles};
#[cfg(feature = "http")]
pub use listen::{ListenError, Listener};
#[cfg(feature = "log")]
pub use log_queue::{LogQueue, Receipt, Trouble, awaited, log_panics, record};
#[cfg(feature = "http")]
pub use open_files::{Shares, raise_open_files};
#[cfg(feature = "http")]
pub use problem::{Problem, json, problem};
#[cfg(feature = "process")]
pub use process::{Process, outlive_file_size_limits, serve};
#[cfg(feature = "settings")]
pub use settings_file::{LARGEST, SettingsError, SettingsFile};
#[cfg(feature = "http")]
pub use tasks::{Limits, Tasks};
#[cfg(feature = "http")]
pub use token_digest::TokenDigest;
#[cfg(feature = "settings")]
pub use variables::{Variables, variable};
