//! The `CheckRequest`, as Envoy's own ext_authz filter would send it, with additions by the gate.
//!
//! Headers are in the map `headers`, with the values of one name joined by commas, as in Envoy. If that loses
//! information (a repeated name, a value that is not UTF-8), `header_map` lists all of them too, individually and in
//! order. They are never in `header_map` alone: by sending a header twice, a client could hide all headers from a
//! server that reads only `headers`.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::Message;

use super::RequestDetails;
use super::messages::{
    Address, AttributeContext, CheckRequest, HeaderMap, HeaderValue, HttpRequest, Peer, Request as Http,
    SocketAddress, Timestamp,
};
use crate::request::{Header, Request};

/// The contents of the message besides the request.
pub(crate) struct CheckInput<'a> {
    pub(crate) module: &'a str,
    pub(crate) rule: &'a str,
    /// The caller as JSON; `None` if the rule is open.
    pub(crate) identity: Option<&'a str>,
    /// Whether a header is withheld from the policy.
    pub(crate) withheld: &'a dyn Fn(&Header<'_>) -> bool,
    /// The time since the Unix epoch.
    pub(crate) time: Duration,
    pub(crate) details: &'a RequestDetails<'a>,
    /// Whether the policy is sent the body.
    pub(crate) sends_body: bool,
}

pub(crate) fn encode(request: &Request<'_>, input: &CheckInput<'_>) -> Vec<u8> {
    let mut extensions = BTreeMap::new();
    let mut extend = |name: &str, value: &str| extensions.insert(name.to_owned(), value.to_owned());
    extend("postern.module", input.module);
    extend("postern.rule", input.rule);
    if let Some(identity) = input.identity {
        extend("postern.identity", identity);
    }
    let message = CheckRequest {
        attributes: Some(AttributeContext {
            source: request.source.and_then(peer),
            request: Some(Http {
                time: Some(Timestamp {
                    seconds: i64::try_from(input.time.as_secs()).unwrap_or(i64::MAX),
                    nanos: i32::try_from(input.time.subsec_nanos()).unwrap_or_default(),
                }),
                http: Some(http(request, input)),
            }),
            context_extensions: extensions,
        }),
    };
    message.encode_to_vec()
}

fn http(request: &Request<'_>, input: &CheckInput<'_>) -> HttpRequest {
    let visible: Vec<Header<'_>> = request
        .headers
        .iter()
        .filter(|header| !(input.withheld)(header))
        .copied()
        .collect();
    let headers = header_map(&visible);
    let lossless = headers.len() == visible.len()
        && visible
            .iter()
            .all(|(name, value)| std::str::from_utf8(name).is_ok() && std::str::from_utf8(value).is_ok());
    let body = input.details.body;
    let size = if input.sends_body || request.end_of_stream {
        u64::try_from(body.len()).ok()
    } else {
        request.content_length()
    };
    HttpRequest {
        id: request.id().unwrap_or_default().to_owned(),
        method: text(request.method()),
        headers,
        path: text(request.path()),
        host: text(request.first(":authority").unwrap_or_default()),
        scheme: text(request.first(":scheme").unwrap_or_default()),
        size: size.and_then(|size| i64::try_from(size).ok()).unwrap_or(-1),
        protocol: input.details.protocol.unwrap_or_default().to_owned(),
        body: String::new(),
        raw_body: if input.sends_body {
            body.to_vec()
        } else {
            Vec::new()
        },
        header_map: (!lossless).then(|| header_list(&visible)),
    }
}

fn header_map(headers: &[Header<'_>]) -> BTreeMap<String, String> {
    let mut map: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        map.entry(text(name))
            .and_modify(|values| {
                values.push(',');
                values.push_str(&text(value));
            })
            .or_insert_with(|| text(value));
    }
    map
}

fn header_list(headers: &[Header<'_>]) -> HeaderMap {
    let value = |(name, value): &Header<'_>| HeaderValue {
        key: text(name),
        value: String::new(),
        raw_value: value.to_vec(),
    };
    HeaderMap {
        headers: headers.iter().map(value).collect(),
    }
}

/// Converts to UTF-8. Each invalid byte becomes `!`, as in Envoy.
fn text(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '!'));
    }
    text
}

fn peer(source: &str) -> Option<Peer> {
    let address: std::net::SocketAddr = source.parse().ok()?;
    Some(Peer {
        address: Some(Address {
            socket_address: Some(SocketAddress {
                address: address.ip().to_string(),
                port_value: u32::from(address.port()),
            }),
        }),
    })
}

#[cfg(test)]
mod tests;
