//! The registry of signers, `signers.toml`: which signatures are trusted.
//!
//! A signature is accepted if its signer is in the registry, the signer's key verifies it, and it was made for one of the
//! signer's uses while the signer was valid. A new signature is verified with [`Registry::verify_new`]; one from a record
//! with [`Registry::verify_recorded`], which also accepts retired signers. The caller passes in the time.
//!
//! ```toml
//! [signers.kernel-2026]
//! public_key = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
//! status = "active" # or "retired"
//! uses = ["payload"] # or manifest, checkpoint, rotation; without it, all of them
//! valid_from = 2026-01-01T00:00:00Z # optional
//! valid_until = 2027-01-01T00:00:00Z # optional
//! # for a retired signer: retired_at = 2026-06-01T00:00:00.000001Z
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
