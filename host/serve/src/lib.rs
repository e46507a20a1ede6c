//! What every server of Postern needs.
//!
//! A process has so many file descriptors, and whoever reaches a port can use them up with connections that ask nothing.
//! So each listener has a bound on its connections ([`Connections`]), those of Unix sockets and operators keep a share
//! that a TCP port cannot take ([`ConnectionQuota`]), and a connection that asks nothing, or stops in the middle, ends. [`Tasks`]
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
#[cfg(feature = "http")]
mod listen_error;
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
pub use admission_queue::{AdmissionPermit, AdmissionQueue, NotAdmitted};
#[cfg(feature = "http")]
pub use bearer::{BearerToken, bearer_token, is_authorization_ambiguous};
#[cfg(feature = "http")]
pub use connections::{Connection, ConnectionMetrics, Connections};
#[cfg(feature = "watch")]
pub use file_watcher::{FileWatcher, UnwatchedDirectory, WatchedFiles};
#[cfg(feature = "http")]
pub use listen::Listener;
#[cfg(feature = "http")]
pub use listen_error::ListenError;
#[cfg(feature = "log")]
pub use log_queue::{LogFailure, LogQueue, WriteReceipt, log_awaited, log_panics, log_record};
#[cfg(feature = "http")]
pub use open_files::{ConnectionQuota, raise_open_files};
#[cfg(feature = "http")]
pub use problem::{Problem, json, problem};
#[cfg(feature = "process")]
pub use process::{Process, catch_file_size_signal, serve};
#[cfg(feature = "settings")]
pub use settings_file::{MAX_FILE_SIZE, SettingsError, SettingsFile};
#[cfg(feature = "http")]
pub use tasks::{Limits, Tasks};
#[cfg(feature = "http")]
pub use token_digest::TokenDigest;
#[cfg(feature = "settings")]
pub use variables::{Variables, variable};
