//! The parts of a server that run at the same time: its listeners, and the tasks beside them.

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

/// The time limits of listeners, and how much one connection may ask at once.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long the head of an HTTP/1 request may take, and how long such a connection may wait for the next one.
    pub head_timeout: Duration,
    /// Requests at the same time over one connection (HTTP/2).
    pub max_streams: u32,
    /// How long a server that stops waits for what it has begun.
    pub stop_timeout: Duration,
}

/// The parts of a server. Dropped, all of them end.
#[derive(Debug)]
pub struct Tasks {
    limits: Limits,
    running: JoinSet<&'static str>,
    stop: watch::Sender<bool>,
}

impl Tasks {
    /// No parts yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            running: JoinSet::new(),
            stop: watch::Sender::new(false),
        }
    }

    /// Serves routes on a listener, to at most so many connections at once: with TLS on TCP, if it is given.
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
            let _there_while_it_serves = file;
            let stop = async {
                stopping.await;
                handle.graceful_shutdown(Some(grace));
                std::future::pending::<()>().await;
            };
            let ended = tokio::select! { ended = serving => ended, () = stop => Ok(()) };
            if let Err(error) = ended {
                tracing::error!(%error, "a listener ended");
            }
            "a listener"
        });
    }

    /// Runs a task of this name beside the listeners, until they stop.
    pub fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let stopping = self.stopping();
        self.running.spawn(async move {
            tokio::select! { () = task => {}, () = stopping => {} }
            name
        });
    }

    /// Waits for the end of a part, and names it.
    pub async fn task_ended(&mut self) -> &'static str {
        match self.running.join_next().await {
            Some(Ok(part)) => part,
            Some(Err(_)) => "a part that panicked",
            None => std::future::pending().await,
        }
    }

    /// Accepts nothing more, and waits, for a while, for what has begun.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let all = async { while self.running.join_next().await.is_some() {} };
        if tokio::time::timeout(self.limits.stop_timeout, all).await.is_err() {
            tracing::warn!("stopped with requests unanswered");
        }
    }

    /// Ends when the server stops.
    fn stopping(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut stop = self.stop.subscribe();
        async move {
            // A server that is gone stops too.
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }
}
