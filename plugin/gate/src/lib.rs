//! Postern's decisions.
//!
//! [`config`] reads a configuration, [`Gate::compile`] compiles it, and the gate decides on requests. It knows
//! nothing of proxies, reads no clock and does no I/O: what it needs, it requests in [`Step`]s and through [`ports`].
//! The proxy-wasm filter carries out its steps; tests and `postern try` run the same gate natively.
//!
//! A request's way can be followed in `stages`: route, limits by address, authenticate, authorize, limits, policy,
//! audit.
//!
//! ```
//! use postern_gate::ports::memory::{ManualClock, MemoryState};
//! use postern_gate::ports::{Observation, Observer, Ports, PureRust};
//! use postern_gate::{Gate, Request, Step, config};
//!
//! struct Silent;
//! impl Observer for Silent {
//!     fn observe(&self, _: &Observation<'_>) {}
//! }
//!
//! let text = br#"{"rules": [{"name": "health", "match": {"path": {"exact": "/healthz"}}, "open": true}]}"#;
//! let gate = Gate::compile(&config::from_json(text)?, &|_: &str| None)?;
//!
//! let (clock, state) = (ManualClock::at(std::time::Duration::ZERO), MemoryState::default());
//! let tables = gate.open_tables(&state, [0; 16]);
//! let ports = Ports { clock: &clock, state: &state, verifier: &PureRust, observer: &Silent };
//! let decide = |path: &[u8]| {
//!     let headers = [(&b":method"[..], &b"GET"[..]), (b":path", path), (b":authority", b"api.example")];
//!     gate.begin(&Request { headers: &headers, source: None, end_of_stream: true }, &tables, &ports)
//! };
//! assert!(matches!(decide(b"/healthz"), Step::Continue(_)));
//! assert!(matches!(decide(b"/healthz/../admin"), Step::Deny(denial) if denial.reason.code() == "path_ambiguous"));
//! # Ok::<(), postern_config::ConfigErrors>(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod audit;
pub mod config;
pub mod ports;

mod api_key;
mod authority;
mod compile;
mod denial;
mod digest_map;
mod evaluation;
mod gate;
mod header_name;
mod id;
mod identity;
mod jwt;
mod limit;
mod method;
pub mod path;
mod pending;
mod policy;
mod reason;
mod replay;
mod request;
mod rule;
mod rule_conflict;
mod secret;
mod signature;
mod stages;
mod step;
mod table;
#[cfg(test)]
mod testing;

pub use compile::split_uri;
pub use denial::Denial;
pub use gate::{Gate, Tables};
pub use id::{IssuerId, LimitId, RuleId};
pub use identity::{CredentialKind, HEADER_PREFIX, Identity};
pub use jwt::{FetchRecord, KeySetError, Remote, Schedule, VerifyingKey, split_token};
pub use limit::LimitReport;
pub use pending::{PendingAudit, PendingBody, PendingKeys, PendingPolicy, PendingResponse};
pub use policy::{Allowance, AppendAction, Change, PolicyHost, PolicyResponse, Reply, RequestDetails};
pub use reason::Reason;
pub use request::{Header, Request};
pub use rule_conflict::RuleConflict;
pub use secret::{Secret, Secrets};
pub use signature::string_to_sign;
pub use stages::Consultation;
pub use step::{Effects, Need, Step};
