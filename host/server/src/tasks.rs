//! What a host does at once: its listeners, and what goes on beside them.

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix;
use std::sync::Arc;
use std::time::Duration;

use axum_server::accept::{Accept, DefaultAcceptor, NoDelayAcceptor};
use axum_server::service::SendService;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use axum_server::{Address, Handle, Server};
use http::Request;
use hyper::body::Incoming;
use postern_serve::{Bounded, Connections, bounded};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::listen::{Listener, Socket};

/// How long the head of an HTTP/1 request may take, and how long such a connection may wait for the next one.
const HEAD: Duration = Duration::from_secs(30);
/// Of a connection. Envoy opens one for each worker, and more where it may not send more over one.
const STREAMS: u32 = 4096;
/// How long a host that stops waits for what it has begun.
const STOPPING: Duration = Duration::from_millis(3500);

/// What a host does at once. Dropped, all of it ends.
#[derive(Debug)]
pub(crate) struct Tasks {
    running: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            running: JoinSet::new(),
            stop: watch::Sender::new(false),
        }
    }
}

impl Tasks {
    /// Serves routes on a listener, to so many connections at once: with TLS on TCP, if it is given.
    pub(crate) fn serve(
        &mut self,
        listener: Listener,
        routes: axum::Router,
        tls: Option<RustlsConfig>,
        connections: Arc<Connections>,
    ) {
        match (listener, tls) {
            (Listener::Tcp(tcp), None) => {
                let acceptor = Bounded::new(NoDelayAcceptor, connections);
                let server = Server::<SocketAddr>::from_listener(tcp).acceptor(acceptor);
                self.run(server, routes, None);
            }
            (Listener::Tcp(tcp), Some(tls)) => {
                let acceptor = RustlsAcceptor::new(tls).acceptor(NoDelayAcceptor);
                let acceptor = Bounded::new(acceptor, connections);
                let server = Server::<SocketAddr>::from_listener(tcp).acceptor(acceptor);
                self.run(server, routes, None);
            }
            (Listener::Unix(listener, socket), _) => {
                let acceptor = Bounded::new(DefaultAcceptor, connections);
                let server = Server::<unix::net::SocketAddr>::from_listener(listener).acceptor(acceptor);
                self.run(server, routes, Some(socket));
            }
        }
    }

    fn run<A, S>(&mut self, server: Server<A, S>, routes: axum::Router, socket: Option<Socket>)
    where
        A: Address + Send + Sync + 'static,
        A::Stream: Send,
        A::Listener: Send + Sync,
        S: Accept<A::Stream, axum::Router> + Clone + Send + Sync + 'static,
        S::Stream: AsyncRead + AsyncWrite + Unpin + Send,
        S::Service: SendService<Request<Incoming>> + Send,
        S::Future: Send,
    {
        let handle = Handle::new();
        let serving = bounded(server, HEAD, STREAMS)
            .handle(handle.clone())
            .serve(routes.into_make_service());
        let stopping = self.stopping();
        self.running.spawn(async move {
            let _there_while_it_serves = socket;
            let stop = async {
                stopping.await;
                handle.graceful_shutdown(Some(STOPPING));
                std::future::pending::<()>().await;
            };
            let ended = tokio::select! { ended = serving => ended, () = stop => Ok(()) };
            if let Err(error) = ended {
                tracing::error!(%error, "a listener ended");
            }
        });
    }

    /// Goes on beside the listeners until they stop.
    pub(crate) fn spawn(&mut self, beside: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping();
        self.running.spawn(async move {
            tokio::select! { () = beside => {}, () = stopping => {} }
        });
    }

    /// Waits for the end of one.
    pub(crate) async fn ended(&mut self) {
        if self.running.join_next().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    /// Accepts nothing more, and waits, for a while, for what has begun.
    pub(crate) async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(STOPPING, all).await.is_err() {
            tracing::warn!("stopped with requests unanswered");
        }
    }

    /// Ends when the host stops.
    fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.subscribe();
        async move {
            // A host that is gone stops too.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }
}
