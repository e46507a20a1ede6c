//! What a host does at once: its listeners, and what goes on beside them.

use std::future::Future;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::server::{Connected, Router};

use crate::listen::{Listener, Socket, connections};

/// How long a host that stops waits for what it has begun.
const STOPPING: Duration = Duration::from_secs(5);

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
    /// Answers gates on a listener.
    pub(crate) fn serve_checks(&mut self, listener: Listener, router: Router) {
        match listener {
            Listener::Tcp(tcp) => {
                let tcp = tcp.tap_io(|connection| {
                    // Answers are small: none waits for another to share a packet with.
                    let _ = connection.set_nodelay(true);
                });
                self.serve_connections(tcp, None, router);
            }
            Listener::Unix(unix, socket) => self.serve_connections(unix, Some(socket), router),
        }
    }

    fn serve_connections<L>(&mut self, listener: L, socket: Option<Socket>, router: Router)
    where
        L: axum::serve::Listener + 'static,
        L::Io: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
    {
        let serving = router.serve_with_incoming_shutdown(connections(listener), self.stopping());
        self.running.spawn(async move {
            let _there_while_it_serves = socket;
            if let Err(error) = serving.await {
                tracing::error!(%error, "a listener for gates ended");
            }
        });
    }

    /// Answers operators on a listener.
    pub(crate) fn serve_admin(&mut self, listener: Listener, routes: axum::Router) {
        let stopping = self.stopping();
        // Neither ends by itself: errors of accepting are waited out.
        match listener {
            Listener::Tcp(tcp) => {
                let serving = axum::serve(tcp, routes).with_graceful_shutdown(stopping);
                self.running.spawn(async move { drop(serving.await) });
            }
            Listener::Unix(unix, socket) => {
                let serving = axum::serve(unix, routes).with_graceful_shutdown(stopping);
                self.running.spawn(async move {
                    let _there_while_it_serves = socket;
                    drop(serving.await);
                });
            }
        }
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
