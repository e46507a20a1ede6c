//! Modules that export `wasi:http`: a 2xx response allows the request, any other response is the denial.

mod convert;
mod hooks;
mod output;

use std::sync::Arc;
use std::time::Instant;

use postern_wasi_http::{Handler, Sandbox, State};
use wasmtime::Store;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;

use crate::bindings::Request;
use crate::limits::{self, MAX_HOSTCALL_BYTES, MemoryMeter};
use crate::module::Module;
use crate::{Engines, Failure};

use crate::entry::Entry;

use super::Evaluation;
use hooks::Hooks;

pub(super) struct Runner {
    handler: Handler,
}

impl Runner {
    pub(super) fn new(engines: &Engines, module: &Module) -> wasmtime::Result<Self> {
        let handler = Handler::link(&engines.wasi, &module.component)?;
        Ok(Self { handler })
    }

    pub(super) async fn decide(
        &self,
        entry: &Arc<Entry>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Evaluation, Failure> {
        let mut store = self.store(entry, request, deadline);
        let request = convert::to_http_request(entry, request)?;
        let response = self
            .handler
            .call(&mut store, request, convert::MAX_RESPONSE_BODY)
            .await
            .map_err(|error| failure(&error))?;
        Ok(Evaluation {
            decision: convert::to_decision(response)?,
            memory: store.data().memory_used(),
        })
    }

    fn store(&self, entry: &Arc<Entry>, request: &Request, deadline: Instant) -> Store<State> {
        let (stdout, stderr) = output::pair(entry, &request.id);
        let mut store = self.handler.store(Sandbox {
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            outgoing: Box::new(Hooks::new(entry)),
            memory: Box::new(MemoryMeter::new(entry.limits.memory)),
            max_random: MAX_HOSTCALL_BYTES as u64,
        });
        limits::apply(&mut store, deadline, entry.limits.deadline);
        store
    }
}

/// Classifies an error. `ConfigurationError` of `wasi:http` is the only way a component can report an invalid
/// configuration.
fn failure(error: &wasmtime::Error) -> Failure {
    match error.downcast_ref::<ErrorCode>() {
        Some(ErrorCode::ConfigurationError) => Failure::Misconfigured("see its log for the location".into()),
        Some(code) => Failure::Failed(format!("{code:?}")),
        None => Failure::from_error(error),
    }
}
