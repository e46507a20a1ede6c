//! An audit log server for gates, written from the documented contract and independent of Postern's own server: it
//! accepts `POST /v1/audit` with `{"events": [...]}` and responds with `{"durable": n}`. Tests choose how it behaves,
//! and it records the requests it receives.

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
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use serde_json::Value;
use tonic::Status;
use tonic::service::Routes;

use crate::server::Server;

/// How the server responds to events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditBehaviour {
    /// Reports all events as durable.
    Durable,
    /// Reports all events as durable after a delay.
    Delay(Duration),
    /// Reads the events and never responds.
    Hang,
    /// Returns this status without a body.
    Status(u16),
    /// Returns 200 and this body.
    Body(&'static str),
}

/// A recorded `POST /v1/audit`.
#[derive(Clone, Debug)]
pub struct AuditRequest {
    /// The version of HTTP.
    pub version: Version,
    /// The header fields.
    pub headers: HeaderMap,
    /// The events, in order.
    pub events: Vec<Value>,
    /// The body as text.
    pub body: String,
    /// Whether the response reports the events as durable, now or after a delay.
    pub durable: bool,
}

impl AuditRequest {
    /// A header's value, if it occurs once and is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        values.next().is_none().then_some(value.to_str().ok()).flatten()
    }
}

struct Recorded {
    requests: Vec<AuditRequest>,
    /// The header fields of `Check` calls.
    checks: Vec<HeaderMap>,
    behaviour: AuditBehaviour,
}

type Shared = Arc<Mutex<Recorded>>;

fn lock(recorded: &Shared) -> MutexGuard<'_, Recorded> {
    recorded.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server. Its initial behaviour is [`AuditBehaviour::Durable`].
pub struct AuditServer {
    server: Option<Server>,
    addr: SocketAddr,
    recorded: Shared,
}

impl std::fmt::Debug for AuditServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditServer").field("addr", &self.addr).finish()
    }
}

impl AuditServer {
    /// Starts the server on a free port.
    ///
    /// # Errors
    ///
    /// When no port or thread is available.
    pub fn start() -> io::Result<Self> {
        let recorded = Arc::new(Mutex::new(Recorded {
            requests: Vec::new(),
            checks: Vec::new(),
            behaviour: AuditBehaviour::Durable,
        }));
        let server = Server::start("audit", router(&recorded))?;
        Ok(Self {
            addr: server.addr(),
            server: Some(server),
            recorded,
        })
    }

    /// The address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Treats every request this way from now on.
    pub fn set_behaviour(&self, behaviour: AuditBehaviour) {
        lock(&self.recorded).behaviour = behaviour;
    }

    /// The requests recorded so far.
    #[must_use]
    pub fn requests(&self) -> Vec<AuditRequest> {
        lock(&self.recorded).requests.clone()
    }

    /// The events that it reported as durable, in order.
    #[must_use]
    pub fn durable_events(&self) -> Vec<Value> {
        let requests = self.requests();
        let durable = requests.into_iter().filter(|request| request.durable);
        durable.flat_map(|request| request.events).collect()
    }

    /// The header fields of the ext_authz `Check` calls it received; each of them fails with UNIMPLEMENTED.
    #[must_use]
    pub fn check_headers(&self) -> Vec<HeaderMap> {
        lock(&self.recorded).checks.clone()
    }

    /// Clears what it has recorded.
    pub fn reset(&self) {
        let mut recorded = lock(&self.recorded);
        recorded.requests.clear();
        recorded.checks.clear();
    }

    /// Stops at once and resets all connections, as a killed process does.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Starts again on the same port.
    ///
    /// # Errors
    ///
    /// When another process has taken the port.
    pub fn restart(&mut self) -> io::Result<()> {
        self.kill();
        self.server = Some(Server::start_at("audit", self.addr, router(&self.recorded))?);
        Ok(())
    }
}

fn router(recorded: &Shared) -> Router {
    let checks = AuthorizationServer::new(Unimplemented(Arc::clone(recorded)));
    Router::new()
        .route("/v1/audit", post(receive_events))
        .with_state(Arc::clone(recorded))
        .merge(Routes::new(checks).into_axum_router())
}

async fn receive_events(State(recorded): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Some(events) = parse_events(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let count = events.len();
    let behaviour = {
        let mut recorded = lock(&recorded);
        let behaviour = recorded.behaviour.clone();
        recorded.requests.push(AuditRequest {
            version: head.version,
            headers: head.headers,
            events,
            body: String::from_utf8_lossy(&body).into_owned(),
            durable: matches!(behaviour, AuditBehaviour::Durable | AuditBehaviour::Delay(_)),
        });
        behaviour
    };
    let durable = format!("{{\"durable\": {count}}}").into_response();
    match behaviour {
        AuditBehaviour::Durable => durable,
        AuditBehaviour::Delay(delay) => {
            tokio::time::sleep(delay).await;
            durable
        }
        AuditBehaviour::Hang => std::future::pending().await,
        AuditBehaviour::Status(code) => StatusCode::from_u16(code)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response(),
        AuditBehaviour::Body(body) => body.into_response(),
    }
}

/// The events of a body; `None` unless it has exactly the documented form.
fn parse_events(body: &Bytes) -> Option<Vec<Value>> {
    let mut document: Value = serde_json::from_slice(body).ok()?;
    let members = document.as_object_mut()?;
    let Some(Value::Array(events)) = members.remove("events") else {
        return None;
    };
    (members.is_empty() && !events.is_empty()).then_some(events)
}

/// A policy host without policies, which records the header fields of each call.
struct Unimplemented(Shared);

#[tonic::async_trait]
impl Authorization for Unimplemented {
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, Status> {
        let headers = request.metadata().clone().into_headers();
        lock(&self.0).checks.push(headers);
        Err(Status::unimplemented(""))
    }
}
