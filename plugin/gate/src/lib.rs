//! Postern's decisions.
//!
//! [`config`] reads what people write, [`Gate::compile`] makes a gate of it, and the gate decides on requests: it knows
//! nothing of proxies, reads no clock and does no I/O. What it needs it asks for, in [`Step`]s and through [`ports`].
//! The proxy-wasm filter carries its steps out; tests and `postern try` run the same gate natively.
//!
//! ```
//! use postern_gate::ports::memory::{ManualClock, MemoryState};
//! use postern_gate::ports::{Event, Metrics, Ports, PureRust};
//! use postern_gate::{Gate, Request, Step, config};
//!
//! struct Silent;
//! impl Metrics for Silent {
//!     fn note(&self, _: &Event<'_>) {}
//! }
//!
//! let text = br#"{"rules": [{"name": "health", "match": {"path": {"exact": "/healthz"}}, "open": true}]}"#;
//! let gate = Gate::compile(&config::from_json(text)?, &|_: &str| None)?;
//!
//! let (clock, state) = (ManualClock::at(std::time::Duration::ZERO), MemoryState::default());
//! let tables = gate.open_tables(&state, [0; 16]);
//! let ports = Ports { clock: &clock, state: &state, verifier: &PureRust, metrics: &Silent };
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
mod gate;
mod header_name;
mod identity;
mod jwt;
mod limit;
mod method;
pub mod path;
mod policy;
mod reach;
mod reason;
mod replay;
mod request;
mod rule;
mod secret;
mod signature;
mod step;
mod table;
#[cfg(test)]
mod testing;

pub use compile::split_uri;
pub use denial::Denial;
pub use gate::{Gate, Tables};
pub use identity::{HEADER_PREFIX, Identity, Method};
pub use jwt::{FetchRecord, KeySetError, Remote, Schedule, VerifyingKey, split_token};
pub use limit::Report;
pub use policy::{Allowance, Answer, AppendAction, Change, Consultation, Facts, PolicyHost, Reply};
pub use reach::Obstruction;
pub use reason::Reason;
pub use request::{Header, Request};
pub use secret::{Secret, Secrets};
pub use signature::string_to_sign;
pub use step::{Effects, Need, Pending, Step};
