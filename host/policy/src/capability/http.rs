//! Requests of a policy to the hosts that its entry is granted.

use http::{HeaderName, HeaderValue, Method};
use reqwest::redirect::Policy as Redirect;
use reqwest::{Client, Url};

use crate::contract::Header;
use crate::contract::http::{self as contract, Error, Incoming, Outgoing};
use crate::grants::Grants;

use super::State;

/// The largest response that is read, in bytes.
pub(crate) const RESPONSE: usize = 1 << 20;

/// The client of all policies. Redirects are not followed: they would lead to hosts that are not granted. Proxies of
/// the environment are not used, for the same reason.
///
/// # Errors
/// If TLS cannot be set up: no roots of trust above all.
pub fn client() -> Result<Client, reqwest::Error> {
    Client::builder()
        .redirect(Redirect::none())
        .no_proxy()
        .user_agent(concat!("postern/", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The URL, if it may be asked.
pub(crate) fn granted(grants: &Grants, url: &str) -> Result<Url, Error> {
    let url = Url::parse(url).map_err(|error| Error::Invalid(format!("url: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Error::Invalid("url: http or https".into()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Error::Invalid("url: credentials belong in a header".into()));
    }
    let host = url.host_str().unwrap_or_default();
    // A default port is not named in a URL, so that the grant `host` and the grant `host:443` must be told apart here.
    let named = url.port();
    let known = url.port_or_known_default();
    if grants.reaches(host, named) || grants.reaches(host, known) {
        Ok(url)
    } else {
        Err(Error::NotGranted(host.to_owned()))
    }
}

/// Sends a request and reads its response, bounded.
pub(crate) async fn send(client: &Client, request: reqwest::Request) -> Result<Incoming, Error> {
    let unavailable = |error: reqwest::Error| {
        // Without the URL: its query can hold what is nobody's business.
        Error::Unavailable(error.without_url().to_string())
    };
    let mut response = client.execute(request).await.map_err(unavailable)?;
    let status = response.status().as_u16();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| Header {
            name: name.as_str().to_owned(),
            value: value.as_bytes().to_vec(),
        })
        .collect();
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(unavailable)? {
        if body.len() + part.len() > RESPONSE {
            return Err(Error::TooLarge);
        }
        body.extend_from_slice(&part);
    }
    Ok(Incoming { status, headers, body })
}

fn build(grants: &Grants, outgoing: Outgoing) -> Result<reqwest::Request, Error> {
    let url = granted(grants, &outgoing.url)?;
    let method = Method::from_bytes(outgoing.method.as_bytes()).map_err(|_| Error::Invalid("method".into()))?;
    let mut request = reqwest::Request::new(method, url);
    for Header { name, value } in outgoing.headers {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::Invalid("header name".into()))?;
        // The host is the granted one, and the length is the body's: not the policy's to say.
        if header == http::header::HOST
            || header == http::header::CONTENT_LENGTH
            || header == http::header::TRANSFER_ENCODING
        {
            return Err(Error::Invalid(format!("header `{header}` is not a policy's to set")));
        }
        let value = HeaderValue::from_bytes(&value).map_err(|_| Error::Invalid(format!("value of `{header}`")))?;
        request.headers_mut().append(header, value);
    }
    *request.body_mut() = Some(outgoing.body.into());
    Ok(request)
}

impl contract::Host for State {
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
    fn only_plain_urls_of_granted_hosts_are_asked() {
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
            assert!(granted(&grants, url).is_ok(), "{url}");
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
            assert!(granted(&grants, url).is_err(), "{url}");
        }
    }
}
