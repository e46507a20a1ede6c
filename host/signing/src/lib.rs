//! Signatures from the KMS, each verified before it is returned.
//!
//! A host holds no key. [`Signing`] requests each signature from the KMS proxy (`POST {url}/sign`), over pooled
//! connections, with a deadline, a few safe retries and a circuit breaker. It returns the signature only if the signer is
//! in the registry (`signers.toml`) and its key verifies the signature. Every failure is a [`SigningError`] with its own
//! code: there is no fallback to another key, and signing resumes without intervention once the proxy has recovered.
//!
//! Each signature is for a use (payload, manifest, checkpoint, rotation) and is valid only by a signer of that use.
//! Services and policies have payloads signed; a payload that any reader could take for something else is rejected.
//!
//! Where no proxy is required or configured, development signers sign ([`Mode::resolve`] has the rules), with a warning
//! in the log.
//!
//! The proxy's contract:
//!
//! ```text
//! POST {url}/sign   {"payload_b64": "...", "signer_id": "..."}   signer_id only if configured
//!   200             {"signature_b64": "...", "signer_id": "..."}   Ed25519 (RFC 8032) over the payload
//!   503             with Retry-After, if a retry is expected to succeed
//! GET  {url}/healthz   2xx if it can sign; 404 or 405 without this endpoint
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
