//! The component's response.

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::WasiBody;

/// A component ran, but its response cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// It returned without a response.
    #[error("no response")]
    Missing,
    /// Its body ended with an error.
    #[error("reading the response body failed: {0}")]
    Body(String),
    /// Its body has more bytes than this.
    #[error("the response body is larger than {0} bytes")]
    TooLarge(usize),
}

/// Reads a response with its body.
pub(crate) async fn collect(
    response: http::Response<WasiBody>,
    max_body: usize,
) -> wasmtime::Result<http::Response<Bytes>> {
    let (head, mut body) = response.into_parts();
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| ResponseError::Body(format!("{error:?}")))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > max_body {
                return Err(ResponseError::TooLarge(max_body).into());
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(http::Response::from_parts(head, bytes.freeze()))
}
