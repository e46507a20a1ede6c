//! The API behind the gate: answers everything and remembers what reached it.

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
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query, as they came.
    pub path: String,
    /// Every header, duplicates kept in their order; names in lower case, values decoded lossily.
    pub headers: Vec<(String, String)>,
    /// The body; `None` while it is arriving, and for good if it never ended.
    pub body: Option<Vec<u8>>,
}

impl Seen {
    /// All values of a header; the name in lower case.
    #[must_use]
    pub fn header_values(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    /// A header's value, if the header came exactly once; the name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        match self.header_values(name).as_slice() {
            [value] => Some(value),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
struct Book {
    /// Number of the first entry in `seen`; grows with each reset, so that a late body finds its request or none.
    first: usize,
    seen: Vec<Seen>,
}

type Shared = Arc<Mutex<Book>>;

fn lock(book: &Shared) -> MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A server that answers any request with 200 and what it saw, as JSON:
/// `{"method", "path", "headers": [[name, value], ...], "body_bytes"}`.
#[derive(Debug)]
pub struct SampleApi {
    server: Server,
    book: Shared,
}

impl SampleApi {
    /// Starts the API on a free port.
    ///
    /// # Errors
    ///
    /// When no port or thread is to be had.
    pub fn start() -> io::Result<Self> {
        let book = Shared::default();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&book));
        Ok(Self {
            server: Server::start("sample-api", router)?,
            book,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// What reached the API, oldest first. A request counts from its headers on.
    #[must_use]
    pub fn requests(&self) -> Vec<Seen> {
        lock(&self.book).seen.clone()
    }

    /// How many requests reached the API.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.book).seen.len()
    }

    /// Forgets what it saw.
    pub fn reset(&self) {
        let mut book = lock(&self.book);
        book.first += book.seen.len();
        book.seen.clear();
    }
}

async fn answer(State(book): State<Shared>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let text = |value: &axum::http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect();
    let (method, path) = (head.method.to_string(), head.uri.to_string());
    let number = {
        let seen = Seen {
            method: method.clone(),
            path: path.clone(),
            headers: headers.clone(),
            body: None,
        };
        let mut book = lock(&book);
        book.seen.push(seen);
        book.first + book.seen.len() - 1
    };
    let Ok(bytes) = axum::body::to_bytes(Body::new(body), usize::MAX).await else {
        return (StatusCode::BAD_REQUEST, "the body did not end\n").into_response();
    };
    let body_bytes = bytes.len();
    {
        let mut book = lock(&book);
        let first = book.first;
        if let Some(seen) = number
            .checked_sub(first)
            .and_then(|index| book.seen.get_mut(index))
        {
            seen.body = Some(bytes.to_vec());
        }
    }
    let answer = json!({"method": method, "path": path, "headers": headers, "body_bytes": body_bytes});
    ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn answers_and_remembers() {
        let api = SampleApi::start().unwrap();
        let client = crate::http::builder().build().unwrap();
        let url = format!("http://{}/orders?id=1", api.addr());
        let request = client
            .post(&url)
            .header("x-twice", "1")
            .header("x-twice", "2")
            .body("hello");
        let answer: serde_json::Value =
            serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap();
        assert_eq!(answer["method"], "POST");
        assert_eq!(answer["path"], "/orders?id=1");
        assert_eq!(answer["body_bytes"], 5);

        let seen = api.requests();
        assert_eq!(api.count(), 1);
        assert_eq!(seen[0].header_values("x-twice"), ["1", "2"]);
        assert_eq!(seen[0].header("x-twice"), None);
        assert_eq!(seen[0].header("content-length"), Some("5"));
        assert_eq!(seen[0].body.as_deref(), Some(&b"hello"[..]));
        api.reset();
        assert_eq!(api.count(), 0);
    }
}
