//! The API behind the gate. It accepts every request and records it.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::server::Server;

/// A request that reached the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedRequest {
    pub method: String,
    /// The request target, path and query, unchanged.
    pub path: String,
    /// All header fields in order, including duplicates; names in lower case, values decoded lossily.
    pub headers: Vec<(String, String)>,
    /// The body; `None` until it is complete.
    pub body: Option<Vec<u8>>,
}

impl ReceivedRequest {
    /// All values of a header; `name` is in lower case.
    #[must_use]
    pub fn header_values(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// The value of a header that occurs exactly once; `name` is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.header_values(name).as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct Recorded {
    /// The number of requests removed by resets, so that a body that completes after a reset finds no entry.
    removed: usize,
    requests: Vec<ReceivedRequest>,
}

type Shared = Arc<Mutex<Recorded>>;

fn lock(recorded: &Shared) -> MutexGuard<'_, Recorded> {
    recorded.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server that responds to any request with 200 and a description of the request as JSON:
/// `{"method", "path", "headers": [[name, value], ...], "body_bytes"}`.
#[derive(Debug)]
pub struct SampleApi {
    server: Server,
    recorded: Shared,
}

impl SampleApi {
    /// Starts the server on a free port.
    ///
    /// # Errors
    ///
    /// When no port or thread is available.
    pub fn start() -> io::Result<Self> {
        let recorded = Shared::default();
        let router = Router::new().fallback(record).with_state(Arc::clone(&recorded));
        Ok(Self {
            server: Server::start("sample-api", router)?,
            recorded,
        })
    }

    /// The address it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The requests so far, oldest first. A request is recorded as soon as its headers arrive.
    #[must_use]
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        lock(&self.recorded).requests.clone()
    }

    /// The number of requests so far.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.recorded).requests.len()
    }

    /// Clears the recorded requests.
    pub fn reset(&self) {
        let mut recorded = lock(&self.recorded);
        recorded.removed += recorded.requests.len();
        recorded.requests.clear();
    }
}

async fn record(State(recorded): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect();
    let (method, path) = (head.method.to_string(), head.uri.to_string());
    let number = {
        let received = ReceivedRequest {
            method: method.clone(),
            path: path.clone(),
            headers: headers.clone(),
            body: None,
        };
        let mut recorded = lock(&recorded);
        recorded.requests.push(received);
        recorded.removed + recorded.requests.len() - 1
    };
    let Ok(bytes) = axum::body::to_bytes(Body::new(body), usize::MAX).await else {
        return (StatusCode::BAD_REQUEST, "the body is incomplete\n").into_response();
    };
    let body_bytes = bytes.len();
    {
        let mut recorded = lock(&recorded);
        let removed = recorded.removed;
        if let Some(received) = number
            .checked_sub(removed)
            .and_then(|index| recorded.requests.get_mut(index))
        {
            received.body = Some(bytes.to_vec());
        }
    }
    let description = json!({"method": method, "path": path, "headers": headers, "body_bytes": body_bytes});
    (
        [(header::CONTENT_TYPE, "application/json")],
        description.to_string(),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn requests_are_described_and_recorded() {
        let api = SampleApi::start().unwrap();
        let client = crate::http::builder().build().unwrap();
        let url = format!("http://{}/orders?id=1", api.addr());
        let request = client
            .post(&url)
            .header("x-twice", "1")
            .header("x-twice", "2")
            .body("hello");
        let description: serde_json::Value =
            serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap();
        assert_eq!(description["method"], "POST");
        assert_eq!(description["path"], "/orders?id=1");
        assert_eq!(description["body_bytes"], 5);

        let received = api.requests();
        assert_eq!(api.count(), 1);
        assert_eq!(received[0].header_values("x-twice"), ["1", "2"]);
        assert_eq!(received[0].header("x-twice"), None);
        assert_eq!(received[0].header("content-length"), Some("5"));
        assert_eq!(received[0].body.as_deref(), Some(&b"hello"[..]));
        api.reset();
        assert_eq!(api.count(), 0);
    }
}
