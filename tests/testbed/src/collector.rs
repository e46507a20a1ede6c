//! An OpenTelemetry collector: it accepts spans by OTLP over gRPC and records the messages as bytes.

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

/// The server. Tests look for ids and names in the encoded messages, so nothing is decoded.
#[derive(Debug)]
pub struct Collector {
    server: Server,
    messages: Messages,
}

impl Collector {
    /// Starts the server on a free port.
    ///
    /// # Errors
    ///
    /// When no port or thread is available.
    pub fn start() -> io::Result<Self> {
        let messages = Messages::default();
        let router = Router::new()
            .route(EXPORT, post(export))
            .with_state(Arc::clone(&messages));
        let server = Server::start("collector", router)?;
        Ok(Self { server, messages })
    }

    /// The address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Whether a message contains these bytes. An encoded span contains its name, and the ids of the trace and of the
    /// parent span as raw bytes.
    #[must_use]
    pub fn received(&self, bytes: &[u8]) -> bool {
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages
            .iter()
            .any(|message| message.windows(bytes.len()).any(|window| window == bytes))
    }
}

async fn export(State(messages): State<Messages>, body: Bytes) -> Response {
    messages.lock().unwrap_or_else(PoisonError::into_inner).push(body);
    // Trailers only: the status OK without a message.
    ([("content-type", "application/grpc"), ("grpc-status", "0")], "").into_response()
}
