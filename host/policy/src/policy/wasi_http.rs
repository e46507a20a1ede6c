//! Modules that export `wasi:http`: a 2xx response allows the request, any other response is the denial.

mod convert;
mod hooks;
mod output;

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_channel::oneshot;
use http_body_util::BodyExt as _;
use tokio::task::JoinSet;
use wasmtime::component::{Linker, ResourceTable};
use wasmtime::{AsContextMut as _, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::handler::{Prepared, ProxyPre};
use wasmtime_wasi_http::{WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpView, p2, p3};

use crate::bindings::Request;
use crate::limits::{self, MAX_HOSTCALL_BYTES, MemoryMeter};
use crate::module::Module;
use crate::{Engines, Failure};

use crate::entry::Entry;

use super::Evaluation;
use hooks::Hooks;

/// Store data of one decision of a `wasi:http` component.
struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    hooks: Hooks,
    meter: MemoryMeter,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.hooks,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

pub(super) struct Runner {
    pre: ProxyPre<State>,
}

impl Runner {
    pub(super) fn new(engines: &Engines, module: &Module) -> wasmtime::Result<Self> {
        let mut linker = Linker::<State>::new(&engines.wasi);
        // All of WASI is linked, but the context below grants no files, environment, arguments or sockets. Outgoing
        // requests go through `Hooks`, which allows only the granted hosts.
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        wasmtime_wasi::p3::add_to_linker(&mut linker)?;
        wasmtime_wasi_http::p3::add_to_linker(&mut linker)?;
        let pre = linker.instantiate_pre(&module.component)?;
        let is_p3 = module
            .exports()
            .iter()
            .any(|name| name.starts_with("wasi:http/handler@0.3."));
        let pre = if is_p3 {
            ProxyPre::P3(p3::bindings::ServicePre::new(pre)?)
        } else {
            ProxyPre::P2(p2::bindings::ProxyPre::new(pre)?)
        };
        Ok(Self { pre })
    }

    fn engine(&self) -> &wasmtime::Engine {
        match &self.pre {
            ProxyPre::P2(pre) => pre.engine(),
            ProxyPre::P3(pre) => pre.engine(),
        }
    }

    pub(super) async fn decide(
        &self,
        entry: &Arc<Entry>,
        request: &Request,
        deadline: Instant,
    ) -> Result<Evaluation, Failure> {
        let mut store = self.store(entry, request, deadline);
        let response = call(&self.pre, &mut store, entry, request)
            .await
            .map_err(|error| failure(&error))?;
        let memory = store.data().meter.used();
        Ok(Evaluation {
            decision: convert::to_decision(response)?,
            memory,
        })
    }

    fn store(&self, entry: &Arc<Entry>, request: &Request, deadline: Instant) -> Store<State> {
        let (stdout, stderr) = output::pair(entry, &request.id);
        let wasi = WasiCtx::builder()
            .stdout(stdout)
            .stderr(stderr)
            .max_random_size(MAX_HOSTCALL_BYTES as u64)
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        let mut store = Store::new(
            self.engine(),
            State {
                wasi,
                http: WasiHttpCtx::new(),
                table: ResourceTable::new(),
                hooks: Hooks::new(entry),
                meter: MemoryMeter::new(entry.limits.memory),
            },
        );
        store.limiter(|state| &mut state.meter);
        limits::apply(&mut store, deadline, entry.limits.deadline);
        store
    }
}

/// Classifies an error. `ConfigurationError` of `wasi:http` is the only way a component can report an invalid
/// configuration.
fn failure(error: &wasmtime::Error) -> Failure {
    use p3::bindings::http::types::ErrorCode;
    match error.downcast_ref::<ErrorCode>() {
        Some(ErrorCode::ConfigurationError) => Failure::Misconfigured("see its log for the location".into()),
        Some(code) => Failure::Failed(format!("{code:?}")),
        None => Failure::from_error(error),
    }
}

/// Runs the component until its response is complete, including the body.
async fn call(
    pre: &ProxyPre<State>,
    store: &mut Store<State>,
    entry: &Entry,
    request: &Request,
) -> wasmtime::Result<http::Response<Bytes>> {
    let request = convert::to_http_request(entry, request)?.map(|body| {
        let body: WasiBody = http_body_util::Full::new(body)
            .map_err(|never| match never {})
            .boxed_unsync();
        body
    });
    let proxy = pre.instantiate_async(&mut *store).await?;
    let (tx, rx) = oneshot::channel();
    let prepared = Prepared::new(store.as_context_mut(), &proxy, request, State::http, tx)?;
    // The component writes its response while it runs. With `wasi:http` 0.2 nothing else in its store makes progress
    // while it waits for a reader, so a separate task reads the response. The task ends with this call.
    let (send_response, response) = oneshot::channel();
    let (send_error, mut early_error) = oneshot::channel();
    let mut reader_task = JoinSet::new();
    reader_task.spawn(async move {
        let collected = async {
            let response = rx.await.map_err(|_| Failure::Reply("no response".into()))??;
            collect(response).await
        };
        // Sending fails only if the receiver is gone.
        match collected.await {
            Ok(response) => drop(send_response.send(response)),
            Err(error) => drop(send_error.send(error)),
        }
    });
    let run = store.run_concurrent(async |accessor| {
        // The caller enforces the deadline.
        let run = prepared.run(accessor, std::future::pending());
        let (ran, response) = tokio::join!(run, response);
        ran?;
        response.map_err(|_| Failure::Reply("no response".into()).into())
    });
    tokio::select! {
        biased;
        // This also stops the component, which would otherwise wait for a reader of the rest.
        Ok(error) = &mut early_error => Err(error),
        run = run => run?,
    }
}

async fn collect(response: http::Response<WasiBody>) -> wasmtime::Result<http::Response<Bytes>> {
    let (head, mut body) = response.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|error| Failure::Reply(format!("reading the response body failed: {error:?}")))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > convert::MAX_RESPONSE_BODY {
                return Err(Failure::Reply(format!(
                    "the response body is larger than {} bytes",
                    convert::MAX_RESPONSE_BODY
                ))
                .into());
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(http::Response::from_parts(head, bytes.freeze()))
}
