//! Signatures from the KMS, each verified before it is handed on.
//!
//! A host holds no key. [`Signing`] asks the KMS proxy for a signature (`POST {url}/sign`), over a connection that is
//! kept, with a deadline, few and safe retries, and a circuit breaker; and hands it on only if the registry
//! (`signers.toml`) knows the signer and its key verifies the signature. Whatever else happens is a [`SigningError`] with
//! a code of its own: nothing falls back to another key, and work resumes by itself once the proxy is well again.
//!
//! Each signature is for a use (payload, manifest, checkpoint, rotation), and counts only by a signer of that use. What
//! services and policies have signed is a payload; one that any reader could take for something else is refused.
//!
//! Where no proxy is required and none is named, a development signer stands in ([`Mode`] has the rules), and says so.
//!
//! The proxy's contract:
//!
//! ```text
//! POST {url}/sign   {"payload_b64": "...", "signer_id": "..."}   signer_id only where settings say so
//!   200             {"signature_b64": "...", "signer_id": "..."}   Ed25519 (RFC 8032) over the payload
//!   503             with Retry-After, if it will be able soon
//! GET  {url}/healthz   2xx if it could sign; 404 or 405 if it has none
//! ```
#![forbid(unsafe_code)]

mod attempt_error;
mod breaker;
mod client;
mod development;
mod error;
mod health;
mod manifest;
mod metrics;
mod mode;
mod probe;
mod probe_cache;
mod proxy;
mod registry;
mod reserved;
mod rotation;
mod settings;
mod signing;
mod tls;
mod unverified_signature;

pub use breaker::{BreakerSettings, BreakerState};
pub use error::{SigningError, StartError};
pub use health::{SigningFailure, SigningState};
pub use manifest::{CanonicalError, SignedManifest, canonical};
pub use metrics::Metrics;
pub use mode::{Mode, ModeError};
pub use registry::{SignerChange, SignerChangeKind};
pub use rotation::{Rotation, RotationSignature};
pub use settings::{Auth, ProxySettings, Settings, SettingsError, SignerSelection};
pub use signing::{MAX_PAYLOAD_SIZE, Signed, Signing};
