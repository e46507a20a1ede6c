//! The KMS proxy: signs with Ed25519 keys that never leave a PKCS#11 token (an HSM, a smart card, SoftHSM2).
//!
//! It is the other side of the host's `/sign` for those who have a token and no KMS: `POST /sign` takes a payload and
//! answers with a signature that was verified with the token's public key. [`Settings`] reads `kms-proxy.yaml`; a
//! [`Proxy`] is started from them and serves until it is stopped. The signer is chosen by id, the key in the token by
//! its label, and both change without a restart. Whatever cannot be signed is answered with an error, never with
//! another key's signature.
#![forbid(unsafe_code)]

mod http;
mod keyring;
pub mod memory;
mod metrics;
mod pool;
mod process;
mod proxy;
mod request_log;
mod secret_file;
pub mod settings;
mod software;
pub mod token;

pub use keyring::{KeysError, Signer};
pub use proxy::{Proxy, StartError, inspect};
pub use settings::{Mode, Settings};
pub use software::SoftwareError;
