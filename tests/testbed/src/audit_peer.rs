//! A server that keeps an audit log for gates, written from the contract and not from Postern's code: it takes
//! `POST /v1/audit` with `{"events": [...]}` and answers `{"durable": n}`. It answers as a test says and remembers
//! what it was told.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::Value;

use crate::server::Server;

/// What the peer does with events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Says that all are durable.
    Durable,
    /// The same after a while.
    Late(Duration),
    /// Takes them and never answers.
    Hang,
    /// Answers with this status.
    Status(u16),
    /// Answers with 200 and these bytes.
    Body(&'static str),
}

/// A call that it got.
#[derive(Clone, Debug)]
pub struct Told {
    /// The version of HTTP.
    pub version: Version,
    /// The header fields.
    pub headers: HeaderMap,
    /// The events, in order.
    pub events: Vec<Value>,
    /// The body.
    pub body: String,
    /// Whether it said that they are durable, or will say so.
    pub durable: bool,
}

impl Told {
    /// A header's value, if it came once and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        values.next().is_none().then_some(value.to_str().ok()).flatten()
    }
}

struct Book {
    told: Vec<Told>,
    /// The header fields of questions to a policy.
    asked: Vec<HeaderMap>,
    answer: Answer,
}

type Shared = Arc<Mutex<Book>>;

fn lock(book: &Shared) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server.
pub struct AuditPeer {
    server: Option<Server>,
    addr: SocketAddr,
    book: Shared,
}

impl std::fmt::Debug for AuditPeer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditPeer").field("addr", &self.addr).finish()
    }
}

impl AuditPeer {
    /// Starts it on a free port; whatever it is told is durable.
    ///
    /// # Errors
    ///
    /// When no port or thread is to be had.
    pub fn start() -> io::Result<Self> {
        let book = Arc::new(Mutex::new(Book {
            told: Vec::new(),
            asked: Vec::new(),
            answer: Answer::Durable,
        }));
        let server = Server::start("audit-peer", router(&book))?;
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

    /// Answers so from now on.
    pub fn answer(&self, answer: Answer) {
        lock(&self.book).answer = answer;
    }

    /// The calls it got so far.
    #[must_use]
    pub fn told(&self) -> Vec<Told> {
        lock(&self.book).told.clone()
    }

    /// The events that it said are durable, in order.
    #[must_use]
    pub fn durable(&self) -> Vec<Value> {
        let told = self.told();
        let durable = told.into_iter().filter(|told| told.durable);
        durable.flat_map(|told| told.events).collect()
    }

    /// The header fields of the questions that it was asked as a policy host; it answers none of them.
    #[must_use]
    pub fn asked(&self) -> Vec<HeaderMap> {
        lock(&self.book).asked.clone()
    }

    /// Forgets what it was told.
    pub fn forget(&self) {
        let mut book = lock(&self.book);
        book.told.clear();
        book.asked.clear();
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
        self.server = Some(Server::start_at("audit-peer", self.addr, router(&self.book))?);
        Ok(())
    }
}

fn router(book: &Shared) -> Router {
    Router::new()
        .route("/v1/audit", post(take))
        .route("/envoy.service.auth.v3.Authorization/Check", post(check))
        .with_state(Arc::clone(book))
}

async fn take(State(book): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Some(events) = events(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let count = events.len();
    let answer = {
        let mut book = lock(&book);
        let answer = book.answer.clone();
        book.told.push(Told {
            version: head.version,
            headers: head.headers,
            events,
            body: String::from_utf8_lossy(&body).into_owned(),
            durable: matches!(answer, Answer::Durable | Answer::Late(_)),
        });
        answer
    };
    let durable = format!("{{\"durable\": {count}}}").into_response();
    match answer {
        Answer::Durable => durable,
        Answer::Late(wait) => {
            tokio::time::sleep(wait).await;
            durable
        }
        Answer::Hang => std::future::pending().await,
        Answer::Status(code) => StatusCode::from_u16(code)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response(),
        Answer::Body(body) => body.into_response(),
    }
}

/// The events of a body, if it is of the form that the contract wants.
fn events(body: &Bytes) -> Option<Vec<Value>> {
    let mut document: Value = serde_json::from_slice(body).ok()?;
    let members = document.as_object_mut()?;
    let Some(Value::Array(events)) = members.remove("events") else {
        return None;
    };
    (members.is_empty() && !events.is_empty()).then_some(events)
}

async fn check(State(book): State<Shared>, request: Request) -> Response {
    lock(&book).asked.push(request.headers().clone());
    // No policy is here: "unimplemented".
    [("content-type", "application/grpc"), ("grpc-status", "12")].into_response()
}
