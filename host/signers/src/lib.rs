//! Who may sign: the registry of signers, `signers.toml`.
//!
//! A signature counts if the registry knows its signer, the signer's key verifies it, it was made for one of the signer's
//! uses, and while the signer was valid. Whoever asks for a signature checks it with [`Registry::verify_new`]; whoever finds one in a record, with
//! [`Registry::verify_recorded`], which knows retired signers too. Nothing here reads a clock.
//!
//! ```toml
//! [signers.kernel-2026]
//! public_key = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
//! status = "active" # or "retired"
//! uses = ["payload"] # or manifest, checkpoint, rotation; without it, all of them
//! valid_from = 2026-01-01T00:00:00Z # may be left out
//! valid_until = 2027-01-01T00:00:00Z # may be left out
//! # of a retired one: retired_at = 2026-06-01T00:00:00.000001Z
//! ```

mod edit;
mod file;
mod key;
mod possible_uses;
mod registry;
mod uses;

pub use edit::{EditError, add, add_with_uses, retire, retire_now};
pub use file::{FileError, ReadError};
pub use key::{InvalidPublicKey, format_key, parse_key};
pub use possible_uses::{first_line, possible_uses};
pub use registry::{Registry, SignatureError, Signer, Status, is_signer_id};
pub use uses::{Use, Uses};
