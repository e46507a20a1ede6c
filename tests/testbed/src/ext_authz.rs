//! An external authorization server: Envoy's `envoy.service.auth.v3.Authorization`, as a plain tonic service of the
//! published protobuf types, independent of Postern's own server. Tests choose how it behaves, and it records the
//! requests it receives.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{self, HeaderMap, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse as _, Response};
use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{Authorization, AuthorizationServer};
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{BoolValue, ListValue, Struct, Value};
use envoy_types::pb::google::rpc;
use http_body_util::{BodyExt as _, Full};
use tonic::Status;
use tonic::service::Routes;

pub use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
pub use envoy_types::pb::envoy::service::auth::v3::attribute_context::HttpRequest;
pub use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
pub use envoy_types::pb::envoy::service::auth::v3::{
    CheckRequest, CheckResponse, DeniedHttpResponse, OkHttpResponse,
};
pub use envoy_types::pb::envoy::r#type::v3::HttpStatus;
pub use tonic::Code;

use crate::server::Server;

/// How the server responds to a `CheckRequest`.
#[derive(Clone, Debug)]
pub enum CheckBehaviour {
    /// Returns this response.
    Respond(Box<CheckResponse>),
    /// Returns this response after a delay.
    Delay(Duration, Box<CheckResponse>),
    /// Ends the call with this gRPC status and without a message.
    Status(Code),
    /// Sends these bytes as the gRPC message, of any size and whether or not they decode.
    Message(Vec<u8>),
    /// Returns this HTTP status, as a server without gRPC does.
    HttpStatus(u16),
}

impl From<CheckResponse> for CheckBehaviour {
    fn from(response: CheckResponse) -> Self {
        Self::Respond(Box::new(response))
    }
}

type Choose = Box<dyn Fn(&CheckRequest) -> CheckBehaviour + Send>;

struct State {
    requests: Vec<CheckRequest>,
    choose: Choose,
}

/// The server. It allows every request until [`ExtAuthzServer::set_behaviour`] is called.
pub struct ExtAuthzServer {
    server: Option<Server>,
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for ExtAuthzServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExtAuthzServer")
            .field("addr", &self.addr)
            .finish()
    }
}

impl ExtAuthzServer {
    /// Starts the server on a free port.
    ///
    /// # Errors
    ///
    /// When no port or thread is available.
    pub fn start() -> io::Result<Self> {
        let state = Arc::new(Mutex::new(State {
            requests: Vec::new(),
            choose: Box::new(|_| allow().into()),
        }));
        let server = Server::start("ext-authz", router(&state))?;
        Ok(Self {
            addr: server.addr(),
            server: Some(server),
            state,
        })
    }

    /// The address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Treats every request this way from now on.
    pub fn set_behaviour(&self, behaviour: impl Into<CheckBehaviour>) {
        let behaviour = behaviour.into();
        self.choose_behaviour(move |_| behaviour.clone());
    }

    /// Chooses the behaviour for each request from now on.
    pub fn choose_behaviour(&self, choose: impl Fn(&CheckRequest) -> CheckBehaviour + Send + 'static) {
        lock(&self.state).choose = Box::new(choose);
    }

    /// Removes and returns the requests recorded so far.
    #[must_use]
    pub fn take_requests(&self) -> Vec<CheckRequest> {
        std::mem::take(&mut lock(&self.state).requests)
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
        self.server = Some(Server::start_at("ext-authz", self.addr, router(&self.state))?);
        Ok(())
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn router(state: &Arc<Mutex<State>>) -> Router {
    let service = AuthorizationServer::new(Service(Arc::clone(state)));
    Routes::new(service)
        .into_axum_router()
        .layer(map_response(replace_response))
}

struct Service(Arc<Mutex<State>>);

#[tonic::async_trait]
impl Authorization for Service {
    async fn check(
        &self,
        request: tonic::Request<CheckRequest>,
    ) -> Result<tonic::Response<CheckResponse>, Status> {
        let request = request.into_inner();
        let behaviour = {
            let mut state = lock(&self.0);
            let behaviour = (state.choose)(&request);
            state.requests.push(request);
            behaviour
        };
        match behaviour {
            CheckBehaviour::Respond(response) => Ok(tonic::Response::new(*response)),
            CheckBehaviour::Delay(delay, response) => {
                tokio::time::sleep(delay).await;
                Ok(tonic::Response::new(*response))
            }
            CheckBehaviour::Status(code) => Err(Status::new(code, "")),
            CheckBehaviour::Message(message) => Ok(replaced_by(Replacement::Message(message.into()))),
            CheckBehaviour::HttpStatus(status) => Ok(replaced_by(Replacement::HttpStatus(status))),
        }
    }
}

/// A response that tonic cannot produce: its codec encodes `CheckResponse` alone, and its responses are always 200.
/// It travels as an extension of an empty response, and [`replace_response`] puts it in that response's place.
#[derive(Clone)]
enum Replacement {
    Message(Bytes),
    HttpStatus(u16),
}

fn replaced_by(replacement: Replacement) -> tonic::Response<CheckResponse> {
    let mut response = tonic::Response::new(CheckResponse::default());
    response.extensions_mut().insert(replacement);
    response
}

async fn replace_response(mut response: Response) -> Response {
    match response.extensions_mut().remove::<Replacement>() {
        None => response,
        Some(Replacement::Message(message)) => response.map(|_| grpc_body(&message)),
        Some(Replacement::HttpStatus(status)) => StatusCode::from_u16(status)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            .into_response(),
    }
}

/// One gRPC message and the status OK: a byte for the compression, four for the length, the message, the trailers.
fn grpc_body(message: &[u8]) -> Body {
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        http::HeaderValue::from_static("0"),
    )]);
    let body = Full::new(Bytes::from(frame)).with_trailers(async { Some(Ok(trailers)) });
    Body::new(body)
}

/// The HTTP attributes of a request; empty if it has none.
#[must_use]
pub fn http_request(request: &CheckRequest) -> HttpRequest {
    let attributes = request.attributes.as_ref();
    let request = attributes.and_then(|attributes| attributes.request.as_ref());
    request
        .and_then(|request| request.http.clone())
        .unwrap_or_default()
}

/// The downstream address of a request.
#[must_use]
pub fn source(request: &CheckRequest) -> Option<SocketAddr> {
    let peer = request.attributes.as_ref()?.source.as_ref()?;
    let Some(Address::SocketAddress(socket)) = &peer.address.as_ref()?.address else {
        return None;
    };
    let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else {
        return None;
    };
    Some(SocketAddr::new(
        socket.address.parse().ok()?,
        u16::try_from(port).ok()?,
    ))
}

/// A context extension of a request.
#[must_use]
pub fn context_extension<'a>(request: &'a CheckRequest, name: &str) -> Option<&'a str> {
    let extensions = &request.attributes.as_ref()?.context_extensions;
    extensions.get(name).map(String::as_str)
}

/// A response with a status alone: OK allows, any other denies.
#[must_use]
pub fn with_status(code: Code) -> CheckResponse {
    CheckResponse {
        status: Some(rpc::Status {
            code: code.into(),
            ..rpc::Status::default()
        }),
        ..CheckResponse::default()
    }
}

/// A response that allows the request.
#[must_use]
pub fn allow() -> CheckResponse {
    allow_with(OkHttpResponse::default())
}

/// A response that allows the request and changes it.
#[must_use]
pub fn allow_with(ok: OkHttpResponse) -> CheckResponse {
    CheckResponse {
        http_response: Some(HttpResponse::OkResponse(ok)),
        ..with_status(Code::Ok)
    }
}

/// Lets the gate cache the response for `ttl_ms`, for requests that are equal in these parts.
#[must_use]
pub fn cacheable(response: CheckResponse, ttl_ms: f64, parts: &[&str]) -> CheckResponse {
    let value = |kind| Value { kind: Some(kind) };
    let object = |fields: Vec<(&str, Value)>| {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        Struct {
            fields: fields.collect(),
        }
    };
    let values = parts
        .iter()
        .map(|part| value(Kind::StringValue((*part).to_owned())))
        .collect();
    let cache = object(vec![
        ("ttl_ms", value(Kind::NumberValue(ttl_ms))),
        ("parts", value(Kind::ListValue(ListValue { values }))),
    ]);
    let postern = object(vec![("cache", value(Kind::StructValue(cache)))]);
    CheckResponse {
        dynamic_metadata: Some(object(vec![("postern", value(Kind::StructValue(postern)))])),
        ..response
    }
}

/// A header to set, or to append to the values that are present.
///
/// It sets `append`, which Envoy deprecates in favour of `append_action` and a gate must still honour.
#[must_use]
pub fn header(key: &str, value: &str, append: bool) -> HeaderValueOption {
    #[expect(deprecated, reason = "existing servers set `append`")]
    HeaderValueOption {
        header: Some(HeaderValue {
            key: key.to_owned(),
            value: value.to_owned(),
            raw_value: Vec::new(),
        }),
        append: Some(BoolValue { value: append }),
        ..HeaderValueOption::default()
    }
}
