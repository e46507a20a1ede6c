//! Builds the request as Envoy would pass it to the filter.

use anyhow::{Result, bail};
use postern_gate::{Header, Request};

use super::args::Args;
use super::header;
use crate::input;
use crate::target::Target;

/// A request that owns its parts.
pub(super) struct OwnedRequest {
    pub(super) method: String,
    pub(super) target: Target,
    pub(super) body: Vec<u8>,
    headers: Vec<(String, String)>,
    source: String,
}

impl OwnedRequest {
    pub(super) fn new(args: &Args) -> Result<Self> {
        let body = args.data.as_deref().map(input::body).transpose()?;
        let default = if body.is_some() { "POST" } else { "GET" };
        let method = args.method.clone().unwrap_or_else(|| default.to_owned());
        let parsed = header::parse(&args.headers)?;
        let mut headers = vec![
            (":authority".to_owned(), authority(args, &parsed)?),
            (":path".to_owned(), args.target.path.clone()),
            (":method".to_owned(), method.clone()),
            (":scheme".to_owned(), "http".to_owned()),
        ];
        // Envoy turns it into `:authority`.
        headers.extend(parsed.into_iter().filter(|(name, _)| name != "host"));
        let length = "content-length";
        if let Some(body) = &body
            && !headers.iter().any(|(name, _)| name == length)
        {
            headers.push((length.to_owned(), body.len().to_string()));
        }
        Ok(Self {
            method,
            target: args.target.clone(),
            body: body.unwrap_or_default(),
            headers,
            source: args.source.clone(),
        })
    }

    pub(super) fn headers(&self) -> Vec<Header<'_>> {
        let headers = self.headers.iter();
        headers
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect()
    }

    pub(super) fn with<'a>(&'a self, headers: &'a [Header<'a>]) -> Request<'a> {
        Request {
            headers,
            source: Some(&self.source),
            end_of_stream: self.body.is_empty(),
        }
    }
}

/// The host of the request. It can be given in three places, but only in one of them.
fn authority(args: &Args, headers: &[(String, String)]) -> Result<String> {
    let header = headers.iter().filter(|(name, _)| name == "host");
    let mut hosts = header
        .map(|(_, value)| value)
        .chain(&args.host)
        .chain(&args.target.authority);
    match (hosts.next(), hosts.next()) {
        (None, _) => Ok("localhost".to_owned()),
        (Some(host), None) => Ok(host.clone()),
        (Some(_), Some(_)) => {
            bail!("the host is given twice; give it once: as --host, as a Host header or in the URL")
        }
    }
}
