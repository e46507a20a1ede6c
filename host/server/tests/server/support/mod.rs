//! A host in its own folder, and clients of it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what fails here ends the test"
)]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::auth::v3::attribute_context::{HttpRequest, Request};
use envoy_types::pb::envoy::service::auth::v3::authorization_client::AuthorizationClient;
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{AttributeContext, CheckRequest, CheckResponse};
use postern_serve::Address;
use postern_server::{Host, Settings, StartError};
use postern_testbed::{modules, text_modules};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tonic::transport::{Channel, Endpoint};

pub const TOKEN: &str = "a-token-of-more-than-16-bytes";

/// A folder for a host's files.
pub struct WorkDir(tempfile::TempDir);

impl WorkDir {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a temporary file and renames it, as a deployment should.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let aside = self.path(".aside");
        std::fs::write(&aside, bytes).unwrap();
        std::fs::rename(aside, self.path(name)).unwrap();
        self.path(name)
    }

    pub fn settings(&self, text: &str) -> Settings {
        self.settings_with(text, &[])
    }

    /// Settings with these environment variables.
    pub fn settings_with(&self, text: &str, environment: &[(&str, &str)]) -> Settings {
        let variable = |name: &str| {
            let found = environment.iter().find(|(known, _)| *known == name);
            let value = found.map(|(_, value)| *value);
            value
                .or((name == "TOKEN").then_some(TOKEN))
                .map(ToOwned::to_owned)
        };
        let mut settings =
            Settings::parse(text, self.0.path(), &variable).unwrap_or_else(|errors| panic!("{errors}"));
        // The pools reserve address space for each decision, and the hosts of all tests must fit beside each other.
        for entry in settings.policies.entries.values_mut() {
            entry.limits.concurrency = entry.limits.concurrency.min(4);
        }
        settings.concurrency = settings
            .policies
            .entries
            .values()
            .map(|entry| entry.limits.concurrency)
            .sum();
        settings
    }

    pub async fn try_start(&self, text: &str) -> Result<Host, StartError> {
        Host::start(self.settings(text)).await
    }

    /// A host that listens on `host.sock` and `admin.sock`, with these `policies`.
    pub async fn start(&self, policies: &str) -> Host {
        let text =
            format!("listen: ['unix:host.sock']\nadmin: {{listen: 'unix:admin.sock'}}\npolicies: {policies}");
        self.try_start(&text)
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }
}

pub async fn connect(address: &Address) -> AuthorizationClient<Channel> {
    AuthorizationClient::new(channel(address).await)
}

pub async fn channel(address: &Address) -> Channel {
    let uri = match address {
        Address::Unix(path) => format!("unix://{}", path.display()),
        Address::Tcp(address) => format!("http://{address}"),
    };
    Endpoint::from_shared(uri).unwrap().connect().await.unwrap()
}

/// A check of `method path` by the entry, if one is named.
pub fn check(entry: &str, method: &str, path: &str) -> CheckRequest {
    let http = HttpRequest {
        id: "r-1".into(),
        method: method.into(),
        path: path.into(),
        ..HttpRequest::default()
    };
    CheckRequest {
        attributes: Some(AttributeContext {
            request: Some(Request {
                time: None,
                http: Some(http),
            }),
            context_extensions: [("postern.module".to_owned(), entry.to_owned())].into(),
            ..AttributeContext::default()
        }),
    }
}

pub fn with_role(mut check: CheckRequest, role: &str) -> CheckRequest {
    let identity = serde_json::json!({"subject": "ann", "issuer": "issuers/sigil", "method": "jwt", "roles": [role],
        "claims": {"sub": "ann"}});
    let extensions = &mut check.attributes.as_mut().unwrap().context_extensions;
    extensions.insert("postern.identity".into(), identity.to_string());
    check
}

/// `allowed`, `denied <status> <code>` or `failed <gRPC status>`.
pub fn describe(response: &CheckResponse) -> String {
    let code = response.status.as_ref().unwrap().code;
    match response.http_response.as_ref().unwrap() {
        HttpResponse::OkResponse(_) => {
            assert_eq!(code, 0);
            "allowed".into()
        }
        HttpResponse::DeniedResponse(denied) => {
            assert_ne!(code, 0);
            let body: serde_json::Value = serde_json::from_str(&denied.body).unwrap();
            format!(
                "denied {} {}",
                denied.status.as_ref().unwrap().code,
                body["code"].as_str().unwrap()
            )
        }
        HttpResponse::ErrorResponse(error) => {
            assert!(error.body.contains("policy_failed") && error.status.as_ref().unwrap().code == 503);
            format!("failed {code}")
        }
    }
}

pub async fn decide(client: &mut AuthorizationClient<Channel>, check: CheckRequest) -> String {
    describe(client.check(check).await.unwrap().get_ref())
}

/// An HTTP/1.1 response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Response {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Sends one request on a new connection; `None` if the response is not HTTP/1.1.
pub async fn http(address: &Address, method: &str, path: &str, token: Option<&str>) -> Option<Response> {
    let token = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
    let request = format!("{method} {path} HTTP/1.1\r\nhost: host\r\n{token}connection: close\r\n\r\n");
    let response = match address {
        Address::Unix(path) => exchange(UnixStream::connect(path).await.unwrap(), &request).await,
        Address::Tcp(address) => exchange(TcpStream::connect(address).await.unwrap(), &request).await,
    };
    let text = String::from_utf8_lossy(&response).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.split(' ').next()?.parse().ok()?;
    Some(Response {
        status,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}

async fn exchange(mut connection: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> Vec<u8> {
    let _ = connection.write_all(request.as_bytes()).await;
    let mut response = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), connection.read_to_end(&mut response)).await;
    response
}

pub async fn get(host: &Host, path: &str) -> Response {
    http(host.admin().unwrap(), "GET", path, None).await.unwrap()
}

/// A module that allows everything.
pub fn allowing_module() -> Vec<u8> {
    text_modules::authorizer("", "(i32.const 0)").unwrap()
}

/// A module that denies everything with this code.
pub fn denying_module(code: &str) -> Vec<u8> {
    text_modules::denying_module(code).unwrap()
}

/// A module that never returns.
pub fn looping_module() -> Vec<u8> {
    text_modules::authorizer("", "(loop (br 0)) unreachable").unwrap()
}

/// A module that ships.
pub fn shipped(name: &str) -> Vec<u8> {
    let path = modules::shipped(name).unwrap_or_else(|error| panic!("{error}"));
    std::fs::read(path).unwrap()
}

/// Repeats the check until it has the expected result: files are loaded a moment after they change.
pub async fn wait_for_decision(
    client: &mut AuthorizationClient<Channel>,
    check: &CheckRequest,
    expected: &str,
) {
    let started = Instant::now();
    loop {
        let found = decide(client, check.clone()).await;
        if found == expected {
            return;
        }
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{found}, not {expected}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
