//! `wasi:http` components: the request in, and a response that lets it pass or is the refusal.

mod call;
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
use crate::limits::{self, HANDED_OVER, Meter};
use crate::module::Module;
use crate::{Engines, Failure};

use super::{Entry, Outcome};
use hooks::Hooks;

/// What belongs to one decision of a `wasi:http` component.
struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    hooks: Hooks,
    meter: Meter,
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
        // All of WASI is linked and nothing of it opens a door: the context below has no files, no environment, no
        // arguments, no sockets. Requests go through `Hooks`, to the granted hosts alone.
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
    ) -> Result<Outcome, Failure> {
        let mut store = self.store(entry, request, deadline);
        let response = answer(&self.pre, &mut store, entry, request)
            .await
            .map_err(|error| failure(&error))?;
        let memory = store.data().meter.used();
        Ok(Outcome {
            decision: call::decision(response)?,
            memory,
        })
    }

    fn store(&self, entry: &Arc<Entry>, request: &Request, deadline: Instant) -> Store<State> {
        let (stdout, stderr) = output::pair(entry, &request.id);
        let wasi = WasiCtx::builder()
            .stdout(stdout)
            .stderr(stderr)
            .max_random_size(HANDED_OVER as u64)
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
                meter: Meter::new(entry.limits.memory),
            },
        );
        store.limiter(|state| &mut state.meter);
        limits::bound(&mut store, deadline, entry.limits.deadline);
        store
    }
}

/// What ended a call. A component has no other word for a configuration that makes no sense than this of HTTP's.
fn failure(error: &wasmtime::Error) -> Failure {
    use p3::bindings::http::types::ErrorCode;
    match error.downcast_ref::<ErrorCode>() {
        Some(ErrorCode::ConfigurationError) => Failure::Misconfigured("its own log may say where".into()),
        Some(code) => Failure::Failed(format!("{code:?}")),
        None => Failure::of(error),
    }
}

/// Runs the component until its response is there, body and all.
async fn answer(
    pre: &ProxyPre<State>,
    store: &mut Store<State>,
    entry: &Entry,
    request: &Request,
) -> wasmtime::Result<http::Response<Bytes>> {
    let request = call::request(entry, request)?.map(|body| {
        let body: WasiBody = http_body_util::Full::new(body)
            .map_err(|never| match never {})
            .boxed_unsync();
        body
    });
    let proxy = pre.instantiate_async(&mut *store).await?;
    let (tx, rx) = oneshot::channel();
    let prepared = Prepared::new(store.as_context_mut(), &proxy, request, State::http, tx)?;
    // The component writes its response while it runs, and in 0.2 nothing else in its store goes on while it waits for a
    // reader: so it is read by a task of its own, which ends with this call.
    let (read, response) = oneshot::channel();
    let (refuse, mut refused) = oneshot::channel();
    let mut reading = JoinSet::new();
    reading.spawn(async move {
        let collected = async {
            let response = rx.await.map_err(|_| Failure::Reply("no response".into()))??;
            collect(response).await
        };
        // Nobody waits for it any more, if it cannot be sent.
        match collected.await {
            Ok(response) => drop(read.send(response)),
            Err(error) => drop(refuse.send(error)),
        }
    });
    let answered = store.run_concurrent(async |accessor| {
        // The deadline is kept from outside, so the request never expires in here.
        let run = prepared.run(accessor, std::future::pending());
        let (ran, response) = tokio::join!(run, response);
        ran?;
        response.map_err(|_| Failure::Reply("no response".into()).into())
    });
    tokio::select! {
        biased;
        // It ends the component too, which would wait for someone to read the rest.
        Ok(error) = &mut refused => Err(error),
        answered = answered => answered?,
    }
}

async fn collect(response: http::Response<WasiBody>) -> wasmtime::Result<http::Response<Bytes>> {
    let (head, mut body) = response.into_parts();
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::Reply(format!("the response's body: {error:?}")))?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > call::RESPONSE {
                return Err(
                    Failure::Reply(format!("a response of more than {} bytes", call::RESPONSE)).into(),
                );
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(http::Response::from_parts(head, read.freeze()))
}
