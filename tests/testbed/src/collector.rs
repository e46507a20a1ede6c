//! A collector of spans: it takes OTLP over gRPC and remembers the messages as they came.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;

use crate::server::Server;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

type Messages = Arc<Mutex<Vec<Bytes>>>;

/// The collector.
#[derive(Debug)]
pub struct Collector {
    server: Server,
    messages: Messages,
}

impl Collector {
    /// Starts it on a free port.
    ///
    /// # Errors
    ///
    /// When no port or thread is to be had.
    pub fn start() -> io::Result<Self> {
        let messages = Messages::default();
        let router = Router::new()
            .route(EXPORT, post(take))
            .with_state(Arc::clone(&messages));
        let server = Server::start("collector", router)?;
        Ok(Self { server, messages })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Whether a message held these bytes. Of a span it holds the ids of trace and parent as bytes, and its name.
    #[must_use]
    pub fn holds(&self, bytes: &[u8]) -> bool {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages
            .iter()
            .any(|message| message.windows(bytes.len()).any(|window| window == bytes))
    }
}

async fn take(State(messages): State<Messages>, body: Bytes) -> Response {
    messages.lock().unwrap_or_else(PoisonError::into_inner).push(body);
    // No more than that it was taken.
    ([("content-type", "application/grpc"), ("grpc-status", "0")], "").into_response()
}
