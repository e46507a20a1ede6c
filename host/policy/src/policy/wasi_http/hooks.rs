//! Outgoing requests of a component: to the granted hosts, with the client of all policies.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full, Limited};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::bindings::http::Error as Refused;
use crate::capability::http::{RESPONSE, framing, granted, send};
use crate::limits::HANDED_OVER;

use super::super::Entry;

pub(super) struct Hooks {
    entry: Arc<Entry>,
}

impl Hooks {
    pub(super) fn new(entry: &Arc<Entry>) -> Self {
        Self {
            entry: Arc::clone(entry),
        }
    }
}

type Sent = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _written: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let entry = Arc::clone(&self.entry);
        Box::new(async move {
            let (head, body) = request.into_parts();
            let url = granted(&entry.grants, &head.uri.to_string()).map_err(|refused| error(&refused))?;
            let body = Limited::new(body, HANDED_OVER)
                .collect()
                .await
                .map_err(|_| Error::HttpRequestBodySize(None))?
                .to_bytes();
            let mut outgoing = http::Request::new(Full::new(body));
            *outgoing.method_mut() = head.method;
            *outgoing.uri_mut() = url;
            for (name, value) in head.headers.iter().filter(|(name, _)| !framing(name)) {
                outgoing.headers_mut().append(name.clone(), value.clone());
            }
            let incoming = send(&entry.client, outgoing)
                .await
                .map_err(|refused| error(&refused))?;
            let body: WasiBody = Full::new(incoming.body.into())
                .map_err(|never| match never {})
                .boxed_unsync();
            let mut response = http::Response::new(body);
            *response.status_mut() =
                http::StatusCode::from_u16(incoming.status).map_err(|_| Error::HttpProtocolError)?;
            for header in incoming.headers {
                let name = http::HeaderName::from_bytes(header.name.as_bytes());
                let value = http::HeaderValue::from_bytes(&header.value);
                if let (Ok(name), Ok(value)) = (name, value) {
                    response.headers_mut().append(name, value);
                }
            }
            let read: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
            Ok((response, read))
        })
    }
}

fn error(refused: &Refused) -> Error {
    match refused {
        Refused::NotGranted(_) => Error::HttpRequestDenied,
        Refused::Invalid(_) => Error::HttpRequestUriInvalid,
        Refused::Unavailable(_) => Error::ConnectionRefused,
        Refused::TooLarge => Error::HttpResponseBodySize(Some(RESPONSE as u64)),
    }
}
