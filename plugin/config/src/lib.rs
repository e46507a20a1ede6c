//! What people write, read with all errors at once.
//!
//! A configuration file is read in two passes: its shape first, by the types of a schema ([`Deserr`](deserr::Deserr)),
//! then its sense, by whoever uses it. Each pass reports every error that it finds ([`ConfigErrors`]), with its path and
//! the next step, and never the value of a secret. The crate holds what the schemas share: sections of named entries
//! ([`Entries`]), scalars such as durations and sizes, secrets by the name of their environment variable ([`SecretRef`]),
//! suggestions for misspelt names ([`suggest`]), and readers of JSON and YAML that refuse duplicate members.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod entries;
mod error;
pub mod json;
mod null;
mod scalar;
mod secret_ref;
mod suggest;
#[cfg(feature = "yaml")]
pub mod yaml;

pub use entries::Entries;
pub use error::{ConfigErrors, Issue, UNKNOWN_TAG};
pub use null::refuse_nulls;
pub use scalar::{ByteSize, Digest, HeaderName, HumanDuration, Narrowing, ScalarError, Timestamp};
pub use secret_ref::{NOT_A_VARIABLE, SecretRef, is_variable_name};
pub use suggest::suggest;
