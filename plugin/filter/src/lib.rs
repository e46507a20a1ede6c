//! The proxy-wasm filter: a shell that carries out the gate's decisions inside Envoy.
//!
//! `root` reads the configuration; `exchange` carries out the gate's steps for one request; `worker` holds what the
//! requests of one worker share: the `engine` (the gate and its ports), the `jwks` client, the queue of requests that
//! wait for keys, and the `audit_client`. `ext_authz` calls policies, `ingest` the audit log. `abi` has the few host
//! calls that the SDK does not offer in a form that is safe for any input.

mod abi;
mod audit_client;
mod counters;
mod engine;
mod exchange;
mod ext_authz;
mod headers;
mod ingest;
mod jwks;
mod key_queue;
mod ports;
mod reply;
mod request;
mod request_record;
mod root;
mod suspended;
mod unconfigured;
mod verifier;
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
