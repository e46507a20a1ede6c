//! Requests and responses through reqwest.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::Fixture;

/// The HTTP version of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    Http1,
    Http2,
}

/// A client with its own connection pool.
#[must_use]
pub fn client(version: Version) -> reqwest::Client {
    let builder = postern_testbed::http::builder().timeout(Duration::from_secs(20));
    let builder = match version {
        Version::Http1 => builder.http1_only(),
        Version::Http2 => builder.http2_prior_knowledge(),
    };
    builder.build().unwrap()
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    /// A request without a body.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Vec::new(),
        }
    }

    /// A GET.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// A POST.
    #[must_use]
    pub fn post(path: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            body: body.into(),
            ..Self::new("POST", path)
        }
    }

    /// Replaces the method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = method.to_owned();
        self
    }

    /// Adds a header, beside those of the same name.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        self.headers
            .append(name, HeaderValue::from_bytes(value.as_ref()).unwrap());
        self
    }

    /// Adds a bearer token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Adds an API key.
    #[must_use]
    pub fn api_key(self, key: &str) -> Self {
        self.header("x-api-key", key)
    }

    /// Sends it to the server at `base`, a URL without a path.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn send_to(&self, client: &reqwest::Client, base: &str) -> reqwest::Result<Response> {
        let method = self.method.parse().unwrap();
        let mut request = client
            .request(method, format!("{base}{}", self.path))
            .headers(self.headers.clone());
        if !self.body.is_empty() {
            request = request.body(self.body.clone());
        }
        let response = request.send().await?;
        Ok(Response {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await?.to_vec(),
        })
    }

    /// Sends it to the Envoy of a fixture.
    ///
    /// # Panics
    /// If there is no response.
    pub async fn send(&self, client: &reqwest::Client, fixture: &Fixture) -> Response {
        let response = self.send_to(client, &fixture.envoy.url("")).await;
        response.unwrap_or_else(|error| panic!("{} {}: no response: {error:?}", self.method, self.path))
    }
}

/// A response of the API, the gate or Envoy.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Response {
    /// A header's value.
    ///
    /// # Panics
    /// If the header occurs more than once.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} occurs more than once: {self:?}");
        Some(value.to_str().unwrap())
    }

    /// The `code` of the problem details (RFC 9457); `None` for any other media type.
    ///
    /// # Panics
    /// If the problem details are malformed.
    #[must_use]
    pub fn code(&self) -> Option<String> {
        if self.header("content-type") != Some("application/problem+json") {
            return None;
        }
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(problem["status"], self.status, "{problem}");
        assert_eq!(problem["type"], "about:blank", "{problem}");
        assert!(problem["title"].is_string(), "{problem}");
        Some(problem["code"].as_str().unwrap().to_owned())
    }

    /// The status and [`code`](Self::code), for comparisons.
    #[must_use]
    pub fn status_and_code(&self) -> (u16, Option<String>) {
        (self.status, self.code())
    }

    /// # Panics
    /// Unless the response has this status, and is a denial with this code or, without one, no denial.
    pub fn expect(&self, status: u16, code: Option<&str>, case: &str) {
        let expected = (status, code.map(str::to_owned));
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(
            self.status_and_code(),
            expected,
            "{case}: {:?} {body}",
            self.headers
        );
    }

    /// Headers and body as text, to search for what they must not contain.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:?} {}", self.headers, String::from_utf8_lossy(&self.body))
    }
}
