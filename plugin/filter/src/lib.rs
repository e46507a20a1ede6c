//! The proxy-wasm filter: a shell that carries out what the gate decides.
//!
//! Nothing is decided here. `root` reads the configuration and keeps issuers' keys fresh, `exchange` takes a request
//! through the gate's steps, `consult` asks policies, `audit` tells the audit log what `record` has of each request, `ports` answers what the gate asks of its surroundings, `abi` holds the few host calls
//! that the SDK does not offer in a form that is safe for any input.

mod abi;
mod audit;
mod effects;
mod exchange;
mod ext_authz;
mod jwks;
mod metrics;
mod ports;
mod request_record;
mod root;
mod verifier;
mod waiting;
mod worker;

use proxy_wasm::traits::RootContext;
use proxy_wasm::types::LogLevel;

// The macro exports `_initialize`, which the proxy calls once.
#[allow(unsafe_code)]
mod start {
    use super::{LogLevel, RootContext, root};

    proxy_wasm::main! {{
        proxy_wasm::set_log_level(LogLevel::Info);
        proxy_wasm::set_root_context(|context_id| -> Box<dyn RootContext> { Box::new(root::Root::new(context_id)) });
    }}
}
