//! A server of Envoy's `envoy.service.auth.v3.Authorization`, written from the published protocol and not from
//! Postern's code: what a policy host is to the filter. It answers as a test says and remembers what it was asked.

pub mod messages;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::{BodyExt, Full};
use prost::Message;

use crate::server::Server;
use messages::{CheckRequest, CheckResponse};

/// What the peer does with a question.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Answers it.
    Message(Box<CheckResponse>),
    /// Answers after a while.
    Late(Duration, Box<CheckResponse>),
    /// Answers with these bytes in the message's place.
    Bytes(Vec<u8>),
    /// Ends the call with this gRPC status, without a message.
    Status(u32),
    /// Answers with this HTTP status, as what is no gRPC server does.
    Http(u16),
}

impl From<CheckResponse> for Answer {
    fn from(response: CheckResponse) -> Self {
        Self::Message(Box::new(response))
    }
}

type Decide = Box<dyn Fn(&CheckRequest) -> Answer + Send>;

struct Book {
    asked: Vec<CheckRequest>,
    decide: Decide,
}

type Shared = Arc<Mutex<Book>>;

fn lock(book: &Shared) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server.
pub struct PolicyPeer {
    server: Option<Server>,
    addr: SocketAddr,
    book: Shared,
}

impl std::fmt::Debug for PolicyPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyPeer").field("addr", &self.addr).finish()
    }
}

impl PolicyPeer {
    /// Starts it on a free port; it allows everything.
    ///
    /// # Errors
    ///
    /// When no port or thread is to be had.
    pub fn start() -> io::Result<Self> {
        let book = Arc::new(Mutex::new(Book {
            asked: Vec::new(),
            decide: Box::new(|_| CheckResponse::allow().into()),
        }));
        let server = Server::start("policy-peer", router(&book))?;
        Ok(Self {
            addr: server.addr(),
            server: Some(server),
            book,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers by this from now on.
    pub fn decide(&self, decide: impl Fn(&CheckRequest) -> Answer + Send + 'static) {
        lock(&self.book).decide = Box::new(decide);
    }

    /// Gives this answer to everything from now on.
    pub fn answer(&self, answer: impl Into<Answer>) {
        let answer = answer.into();
        self.decide(move |_| answer.clone());
    }

    /// What it was asked since the last time.
    #[must_use]
    pub fn take_asked(&self) -> Vec<CheckRequest> {
        std::mem::take(&mut lock(&self.book).asked)
    }

    /// Ends at once, with all its connections, as if it had been killed.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Starts again on the same port.
    ///
    /// # Errors
    ///
    /// When the port was taken by another in the meantime.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        self.server = Some(Server::start_at("policy-peer", self.addr, router(&self.book))?);
        Ok(())
    }
}

fn router(book: &Shared) -> Router {
    Router::new()
        .route("/envoy.service.auth.v3.Authorization/Check", post(check))
        .with_state(Arc::clone(book))
}

async fn check(State(book): State<Shared>, request: Request) -> Response {
    let Ok(body) = axum::body::to_bytes(request.into_body(), usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    // One message: a flag for compression, four bytes of length, the bytes.
    let message = match body.split_at_checked(5) {
        Some(([0, length @ ..], message)) if length == (message.len() as u32).to_be_bytes() => message,
        _ => return status(13),
    };
    let Ok(question) = CheckRequest::decode(message) else {
        return status(13);
    };
    let answer = {
        let mut book = lock(&book);
        let answer = (book.decide)(&question);
        book.asked.push(question);
        answer
    };
    match answer {
        Answer::Message(response) => reply(&response.encode_to_vec()),
        Answer::Late(wait, response) => {
            tokio::time::sleep(wait).await;
            reply(&response.encode_to_vec())
        }
        Answer::Bytes(bytes) => reply(&bytes),
        Answer::Status(code) => status(code),
        Answer::Http(code) => StatusCode::from_u16(code)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response(),
    }
}

fn reply(message: &[u8]) -> Response {
    let mut framed = vec![0];
    framed.extend((message.len() as u32).to_be_bytes());
    framed.extend(message);
    let trailers = async { Some(Ok(HeaderMap::from_iter([grpc_status(0)]))) };
    let body = Full::new(Bytes::from(framed)).with_trailers(trailers);
    ([CONTENT_TYPE], Body::new(body)).into_response()
}

fn status(code: u32) -> Response {
    let mut response = [CONTENT_TYPE].into_response();
    response.headers_mut().extend([grpc_status(code)]);
    response
}

const CONTENT_TYPE: (&str, &str) = ("content-type", "application/grpc");

fn grpc_status(code: u32) -> (axum::http::HeaderName, HeaderValue) {
    (
        axum::http::HeaderName::from_static("grpc-status"),
        HeaderValue::from(code),
    )
}
