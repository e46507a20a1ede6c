//! The concurrent tasks of a server: its listeners and background tasks.

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::accept::{Accept, DefaultAcceptor, NoDelayAcceptor};
use axum_server::service::SendService;
use axum_server::tls_rustls::RustlsConfig;
use axum_server::{Address, Handle, Server};
use http::Request;
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::Connections;
use crate::accept::{LimitedAcceptor, with_limits};
use crate::listen::{Listener, Socket};
use crate::socket_file::SocketFile;
use crate::tls::TlsAcceptor;

/// The timeouts of listeners, and the concurrency of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long an HTTP/1 request head may take, including the wait for the next request on a connection.
    pub head_timeout: Duration,
    /// Concurrent requests over one HTTP/2 connection.
    pub max_streams: u32,
    /// How long a stopping server waits for requests in progress.
    pub stop_timeout: Duration,
}

/// The tasks of a server. All end when it is dropped.
#[derive(Debug)]
pub struct Tasks {
    limits: Limits,
    running: JoinSet<&'static str>,
    stop: watch::Sender<bool>,
}

impl Tasks {
    /// Creates a server without tasks.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            running: JoinSet::new(),
            stop: watch::Sender::new(false),
        }
    }

    /// Serves routes on a listener with limited connections; on TCP with TLS, if given.
    pub fn serve(
        &mut self,
        listener: Listener,
        routes: Router,
        tls: Option<RustlsConfig>,
        connections: Arc<Connections>,
    ) {
        match (listener.0, tls) {
            (Socket::Tcp(tcp), None) => {
                let acceptor = LimitedAcceptor::new(NoDelayAcceptor, connections);
                let server = Server::<SocketAddr>::from_listener(tcp).acceptor(acceptor);
                self.run(server, routes, None);
            }
            (Socket::Tcp(tcp), Some(tls)) => {
                let acceptor = LimitedAcceptor::new(TlsAcceptor::new(tls), connections);
                let server = Server::<SocketAddr>::from_listener(tcp).acceptor(acceptor);
                self.run(server, routes, None);
            }
            (Socket::Unix(listener, file), _) => {
                let acceptor = LimitedAcceptor::new(DefaultAcceptor, connections);
                let server = Server::<unix::net::SocketAddr>::from_listener(listener).acceptor(acceptor);
                self.run(server, routes, Some(file));
            }
        }
    }

    fn run<A, S>(&mut self, server: Server<A, S>, routes: Router, file: Option<SocketFile>)
    where
        A: Address + Send + Sync + 'static,
        A::Stream: Send,
        A::Listener: Send + Sync,
        S: Accept<A::Stream, Router> + Clone + Send + Sync + 'static,
        S::Stream: AsyncRead + AsyncWrite + Unpin + Send,
        S::Service: SendService<Request<Incoming>> + Send,
        S::Future: Send,
    {
        let handle = Handle::new();
        let serving = with_limits(server, self.limits.head_timeout, self.limits.max_streams)
            .handle(handle.clone())
            .serve(routes.into_make_service());
        let (stopping, grace) = (self.stopping(), self.limits.stop_timeout);
        self.running.spawn(async move {
            // Removed when serving ends.
            let _file = file;
            let stop = async {
                stopping.await;
                handle.graceful_shutdown(Some(grace));
                std::future::pending::<()>().await;
            };
            let ended = tokio::select! { ended = serving => ended, () = stop => Ok(()) };
            if let Err(error) = ended {
                tracing::error!(%error, "a listener failed");
            }
            "a listener"
        });
    }

    /// Runs a named task until the server stops.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping();
        self.running.spawn(async move {
            tokio::select! { () = task => {}, () = stopping => {} }
            name
        });
    }

    /// Waits until a task ends, and returns its name.
    pub async fn task_ended(&mut self) -> &'static str {
        match self.running.join_next().await {
            Some(Ok(part)) => part,
            Some(Err(_)) => "a task that panicked",
            None => std::future::pending().await,
        }
    }

    /// Stops accepting, and waits for requests in progress until the timeout.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.stop_timeout, all).await.is_err() {
            tracing::warn!("stopped with requests in progress");
        }
    }

    /// Resolves when the server stops.
    fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.subscribe();
        async move {
            // A dropped server has stopped as well.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }
}
