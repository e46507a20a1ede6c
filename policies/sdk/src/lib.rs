//! The SDK for policy modules.
//!
//! A policy is a function from a request to a decision. [`policy!`] exports it as the component that Postern runs:
//!
//! ```
//! use postern_sdk::{Decision, Error, Request, deny};
//!
//! fn authorize(request: &Request) -> Result<Decision, Error> {
//!     if request.has_role("Operator") {
//!         Ok(Decision::allow().header("x-operator", "yes").into())
//!     } else {
//!         Ok(deny(403, "role_missing", "This needs an operator.").into())
//!     }
//! }
//!
//! postern_sdk::policy!(authorize);
//! ```
//!
//! A policy reaches the host through capabilities: [`config()`], [`log()`], [`clock`], [`keyvalue`], [`http`] and
//! [`signer`]. A module imports only those that it calls, and the host's settings must grant them.
//!
//! On native targets the capabilities are those of an in-memory [`testing::Host`], so `cargo test` can test a policy:
//!
//! ```
//! use postern_sdk::{Decision, Error, Request, deny, testing};
//! use serde::Deserialize;
//!
//! #[derive(Deserialize)]
//! #[serde(deny_unknown_fields)]
//! struct Config {
//!     methods: Vec<String>,
//! }
//!
//! fn authorize(request: &Request) -> Result<Decision, Error> {
//!     let config: Config = postern_sdk::config()?;
//!     if config.methods.contains(&request.method) {
//!         Ok(Decision::allow().into())
//!     } else {
//!         Ok(deny(405, "method_refused", "This method is not offered.").into())
//!     }
//! }
//!
//! let host = testing::Host::new().config(r#"{"methods": ["GET"]}"#);
//! let request = testing::request().method("DELETE").path("/orders/7").build();
//! let Ok(Decision::Deny(denial)) = host.call(authorize, &request) else { panic!("not denied") };
//! assert_eq!(denial.code, "method_refused");
//!
//! let host = testing::Host::new().config(r#"{"methods": 7}"#);
//! let error = host.call(authorize, &request).unwrap_err();
//! assert_eq!(error, Error::Misconfigured("methods: expected a sequence".into()));
//! ```
//!
//! Build a module with `cargo build --target wasm32-unknown-unknown`. The standard library has no clock, files or random
//! numbers on that target; [`Request::time`] has the time.

#![warn(missing_docs)]

#[doc(hidden)]
pub mod bindings;
mod config;
mod decision;
pub mod json;
mod log;
mod path;
mod request;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

mod capabilities;

#[cfg(target_family = "wasm")]
use bindings::postern::policy as imports;
#[cfg(not(target_family = "wasm"))]
use testing::imports;

pub use bindings::postern::policy::types::{
    Allowance, CacheGrant, Decision, Denial, Error, Header, Identity, Obligation, Part, Request,
};
pub use capabilities::{clock, http, keyvalue, signer};
pub use config::{config, config_text, parse_config};
pub use decision::deny;
pub use log::{Level, log};
pub use path::{Template, TemplateError};

/// Exports a function `fn(&Request) -> Result<Decision, Error>` as the policy. Use it once in a `cdylib` crate.
#[macro_export]
macro_rules! policy {
    ($authorize:path) => {
        const _: fn(&$crate::Request) -> ::core::result::Result<$crate::Decision, $crate::Error> = $authorize;

        // Only on wasm: on native targets the exported symbols of two policies would collide.
        #[cfg(target_family = "wasm")]
        const _: () = {
            struct Policy;

            impl $crate::bindings::Guest for Policy {
                fn authorize(
                    request: $crate::Request,
                ) -> ::core::result::Result<$crate::Decision, $crate::Error> {
                    $authorize(&request)
                }
            }

    $crate::bindings::export!(Policy with_types_in $crate::bindings);
        };
    };
}
