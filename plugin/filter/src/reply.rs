//! Denials, sent in the upstream's place.

use postern_gate::Denial;

use crate::abi;
use crate::request::with_request;

/// Sends a denial. `head_only`: the request has no body.
pub(crate) fn send(denial: &Denial, head_only: bool) {
    let headers = denial
        .headers
        .iter()
        .map(|(name, value)| (*name, value.as_bytes()));
    let status = denial.status();
    let details = denial.details();
    if let Some(reply) = &denial.reply {
        let fields = reply
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()));
        let fields: Vec<_> = fields.chain(headers).collect();
        abi::send_local_reply(status, denial.grpc_status(), &details, &fields, &reply.body);
        return;
    }
    let body = with_request(head_only, false, |request| {
        // For gRPC, the proxy turns the body into `grpc-message`.
        (!request.is_grpc()).then(|| denial.body(request.id()))
    });
    let (content_type, body) = match body {
        Some(None) => (None, denial.reason.sentence().to_owned()),
        Some(Some(body)) => (Some(Denial::CONTENT_TYPE), body),
        None => (Some(Denial::CONTENT_TYPE), denial.body(None)),
    };
    let content_type = content_type.map(|media_type| ("content-type", media_type.as_bytes()));
    let fields: Vec<_> = content_type.into_iter().chain(headers).collect();
    abi::send_local_reply(status, denial.grpc_status(), &details, &fields, &body);
}
