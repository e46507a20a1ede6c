//! The `http` capability: requests to the HTTP hosts granted to the entry.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

use crate::bindings::Header;
use crate::bindings::http::{self as bindings, Error, Incoming, Outgoing};
use crate::grants::Grants;

use super::State;

/// Maximum size of a response body, in bytes.
pub(crate) const MAX_RESPONSE_BODY: usize = 1 << 20;

/// An HTTP/1.1 client with a connection pool, with or without TLS. It does not follow redirects and ignores proxy
/// environment variables: both could lead to hosts that are not granted.
#[derive(Debug, Clone)]
pub struct HttpClient(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

/// Creates the client shared by all policies. It trusts the system's root certificates.
///
/// # Errors
/// If TLS cannot be set up.
pub fn http_client() -> Result<HttpClient, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = HttpsConnectorBuilder::new().with_provider_and_native_roots(Arc::clone(&provider));
    let builder = match builder {
        Ok(builder) => builder,
        Err(error) => {
            // Policies that send no requests, or none over TLS, do not need root certificates.
            tracing::warn!(%error, "cannot load the system's root certificates: https requests of policies will fail");
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            HttpsConnectorBuilder::new().with_tls_config(config)
        }
    };
    let connector = builder.https_or_http().enable_http1().build();
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build(connector);
    Ok(HttpClient(client))
}

/// Parses a URL and checks that its host is granted.
pub(crate) fn check_url(grants: &Grants, url: &str) -> Result<Uri, Error> {
    let invalid = |why: &str| Error::Invalid(format!("url: {why}"));
    let uri: Uri = url.parse().map_err(|_| invalid("not a valid URL"))?;
    let default = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return Err(invalid("the scheme must be http or https")),
    };
    let authority = uri.authority().ok_or_else(|| invalid("the host is missing"))?;
    if authority.as_str().contains('@') {
        return Err(invalid("credentials are not allowed here: send them in a header"));
    }
    let port = uri.port_u16().unwrap_or(default);
    // A grant of `host` covers the default ports, and `host:443` port 443, whether or not the URL states the port.
    let on_default_port = port == default && grants.allows_host(authority.host(), None);
    if on_default_port || grants.allows_host(authority.host(), Some(port)) {
        Ok(uri)
    } else {
        Err(Error::NotGranted(authority.host().to_owned()))
    }
}

/// Sends a request and reads the response up to [`MAX_RESPONSE_BODY`].
pub(crate) async fn send(client: &HttpClient, request: Request<Full<Bytes>>) -> Result<Incoming, Error> {
    let response = client
        .0
        .request(request)
        .await
        .map_err(|error| Error::Unavailable(error.to_string()))?;
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| Header {
            name: name.as_str().to_owned(),
            value: value.as_bytes().to_vec(),
        })
        .collect();
    let body = Limited::new(response.into_body(), MAX_RESPONSE_BODY)
        .collect()
        .await;
    let body = body.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            Error::TooLarge
        } else {
            Error::Unavailable("the connection closed in the middle of the response".into())
        }
    })?;
    Ok(Incoming {
        status,
        headers,
        body: body.to_bytes().to_vec(),
    })
}

fn build(grants: &Grants, outgoing: Outgoing) -> Result<Request<Full<Bytes>>, Error> {
    let uri = check_url(grants, &outgoing.url)?;
    let mut request = Request::new(Full::new(outgoing.body.into()));
    *request.uri_mut() = uri;
    *request.method_mut() = Method::from_bytes(outgoing.method.as_bytes())
        .map_err(|_| Error::Invalid("method: not a valid HTTP method".into()))?;
    for Header { name, value } in outgoing.headers {
        let header = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Error::Invalid("headers: invalid header name".into()))?;
        // The client sets the host, which was granted, and the length of the body.
        if is_framing_header(&header) {
            return Err(Error::Invalid(format!("headers: a policy cannot set `{header}`")));
        }
        let value = HeaderValue::from_bytes(&value)
            .map_err(|_| Error::Invalid(format!("headers: invalid value of `{header}`")))?;
        request.headers_mut().append(header, value);
    }
    Ok(request)
}

/// Whether the HTTP client sets this header itself.
pub(crate) fn is_framing_header(name: &HeaderName) -> bool {
    use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
    [HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, TE, UPGRADE].contains(name)
}

impl bindings::Host for State {
    async fn send(&mut self, request: Outgoing) -> wasmtime::Result<Result<Incoming, Error>> {
        Ok(match build(&self.entry.grants, request) {
            Ok(request) => send(&self.entry.client, request).await,
            Err(error) => Err(error),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grants::Capability;

    #[test]
    fn only_urls_of_granted_hosts_are_allowed() {
        let grants = Grants {
            capabilities: [Capability::Http].into(),
            hosts: vec!["api.example.com".into(), "other.example:443".into()],
        };
        for url in [
            "https://api.example.com/x?y",
            "http://api.example.com",
            "https://API.example.com:443/",
            "https://other.example/",
        ] {
            assert!(check_url(&grants, url).is_ok(), "{url}");
        }
        for url in [
            "https://api.example.com:8443/",
            "https://api.example.com@evil.example/",
            "https://evil.example#@api.example.com/",
            "https://user:secret@api.example.com/",
            "http://other.example/",
            "file:///etc/passwd",
            "//api.example.com/",
            "",
        ] {
            assert!(check_url(&grants, url).is_err(), "{url}");
        }
    }
}
