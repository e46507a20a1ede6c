//! What all servers of Postern share.
//!
//! A process has a limited number of file descriptors, and any client that reaches a port could use them up with idle
//! connections. So each listener limits its connections ([`Connections`]), Unix sockets and the operators' listener
//! keep a share that TCP ports cannot take ([`ConnectionQuota`]), and connections that send no requests, or stop in the
//! middle of one, are closed. [`Tasks`] serves [`Listener`]s within these limits, with [TLS](tls) or without;
//! [`Process`] adds signals. Requests wait in an [`AdmissionQueue`], log lines in a [`LogQueue`].
//!
//! Features, so that crates compile only what they use: `http` (listeners, TLS, bearer tokens, problem documents),
//! `log` (the log of a process), `pem` (certificates and keys in PEM), `process` (signals), `settings` (settings files
//! and the secrets that they name), `watch` (file changes).
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
