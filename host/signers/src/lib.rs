//! Who may sign: the registry of signers, `signers.toml`.
//!
//! A signature counts if the registry knows its signer, the signer's key verifies it, and it was made while the signer
//! was valid. Whoever asks for a signature checks it with [`Registry::verify_new`]; whoever finds one in a record, with
//! [`Registry::verify_recorded`], which knows retired signers too. Nothing here reads a clock.
//!
//! ```toml
//! [signers.kernel-2026]
//! public_key = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
//! status = "active" # or "retired"
//! valid_from = 2026-01-01T00:00:00Z # may be left out
//! valid_until = 2027-01-01T00:00:00Z # may be left out
//! ```

mod edit;
mod file;
mod key;
mod registry;

pub use edit::{EditError, add, retire};
pub use file::{FileError, ReadError};
pub use key::{NoKey, parse_key, write_key};
pub use registry::{Refusal, Registry, Signer, Status, is_id};
