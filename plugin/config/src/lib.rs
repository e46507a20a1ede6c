//! Shared pieces of the configuration schemas, which report all errors at once.
//!
//! A configuration file is read in two passes: the types of a schema check its form ([`Deserr`](deserr::Deserr)),
//! then the crate that uses it checks its meaning. Each pass reports every error that it finds ([`ConfigErrors`]),
//! with its path and the fix, and never the value of a secret. This crate provides what the schemas share: sections
//! of named entries ([`Entries`]), scalars such as durations and sizes, secrets by the name of their environment
//! variable ([`SecretRef`]), suggestions for misspelt names ([`suggest`]), and JSON and YAML parsers that reject
//! duplicate members.
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
pub use null::reject_nulls;
pub use scalar::{ByteSize, Digest, HeaderName, HumanDuration, NonEmptyList, ScalarError, Timestamp};
pub use secret_ref::{NOT_A_VARIABLE, SecretRef, is_variable_name};
pub use suggest::suggest;
