//! Outgoing requests of a component: to granted HTTP hosts only, with the client shared by all policies.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Full, Limited};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::bindings::http::Error as HttpError;
use crate::capability::http::{MAX_RESPONSE_BODY, check_url, is_framing_header, send};
use crate::limits::MAX_HOSTCALL_BYTES;

use crate::entry::Entry;

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

type SendResult = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _written: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<SendResult, Error>> + Send> {
        let entry = Arc::clone(&self.entry);
        Box::new(async move {
            let (head, body) = request.into_parts();
            let url =
                check_url(&entry.grants, &head.uri.to_string()).map_err(|error| to_wasi_error(&error))?;
            let body = Limited::new(body, MAX_HOSTCALL_BYTES)
                .collect()
                .await
                .map_err(|_| Error::HttpRequestBodySize(None))?
                .to_bytes();
            let mut outgoing = http::Request::new(Full::new(body));
            *outgoing.method_mut() = head.method;
            *outgoing.uri_mut() = url;
            for (name, value) in head.headers.iter().filter(|(name, _)| !is_framing_header(name)) {
                outgoing.headers_mut().append(name.clone(), value.clone());
            }
            let incoming = send(&entry.client, outgoing)
                .await
                .map_err(|error| to_wasi_error(&error))?;
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

fn to_wasi_error(error: &HttpError) -> Error {
    match error {
        HttpError::NotGranted(_) => Error::HttpRequestDenied,
        HttpError::Invalid(_) => Error::HttpRequestUriInvalid,
        HttpError::Unavailable(_) => Error::ConnectionRefused,
        HttpError::TooLarge => Error::HttpResponseBodySize(Some(MAX_RESPONSE_BODY as u64)),
    }
}
