//! Translates a decision to a `CheckResponse`.

use std::collections::{BTreeMap, HashSet};

use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::service::auth::v3::check_response::HttpResponse;
use envoy_types::pb::envoy::service::auth::v3::{CheckResponse, DeniedHttpResponse, OkHttpResponse};
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{ListValue, Struct, Value};
use envoy_types::pb::google::rpc::Status;
use postern_policy::{Allowance, CacheGrant, DenialContent, DenialResponse, Header, Obligation, Part};
use postern_serve::Problem;
use tonic::Code;

/// The request is allowed.
pub(super) fn allow(allowance: Allowance) -> CheckResponse {
    let metadata = metadata(allowance.cache.as_ref(), allowance.obligations);
    CheckResponse {
        status: Some(status(Code::Ok)),
        dynamic_metadata: metadata,
        http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
            headers: options(allowance.headers),
            ..OkHttpResponse::default()
        })),
    }
}

/// The policy denies the request.
pub(super) fn deny(refusal: DenialResponse, request_id: &str) -> CheckResponse {
    let DenialResponse {
        status,
        mut headers,
        content,
    } = refusal;
    let without =
        |headers: &mut Vec<Header>, names: &[&str]| headers.retain(|h| !names.contains(&h.name.as_str()));
    let body = match content {
        DenialContent::Problem { code, message } => {
            without(&mut headers, &["content-type"]);
            headers.push(problem_type());
            Problem::new(status, &code)
                .detail(&message)
                .request_id(request_id)
                .to_json()
        }
        DenialContent::Body(body) => match String::from_utf8(body.into()) {
            Ok(text) => text,
            // The protocol carries only text. The denial stays; a body that is not UTF-8 is left out.
            Err(_) => {
                without(&mut headers, &["content-type", "content-encoding"]);
                String::new()
            }
        },
    };
    denied(status, headers, body)
}

/// The request is refused without calling a policy, because its path is ambiguous.
pub(super) fn path_ambiguous(request_id: &str) -> CheckResponse {
    let body = Problem::new(400, "path_ambiguous")
        .request_id(request_id)
        .to_json();
    denied(400, vec![problem_type()], body)
}

/// There is no decision. The cause is only logged.
pub(super) fn failure(overloaded: bool, request_id: &str) -> CheckResponse {
    let code = if overloaded {
        Code::Unavailable
    } else {
        Code::Internal
    };
    CheckResponse {
        status: Some(status(code)),
        dynamic_metadata: None,
        http_response: Some(HttpResponse::ErrorResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: 503 }),
            headers: options(vec![problem_type()]),
            body: Problem::new(503, "policy_failed")
                .request_id(request_id)
                .to_json(),
        })),
    }
}

fn denied(code: u16, headers: Vec<Header>, body: String) -> CheckResponse {
    let grpc = if code == 401 {
        Code::Unauthenticated
    } else {
        Code::PermissionDenied
    };
    CheckResponse {
        status: Some(status(grpc)),
        dynamic_metadata: None,
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus {
                code: i32::from(code),
            }),
            headers: options(headers),
            body,
        })),
    }
}

fn status(code: Code) -> Status {
    Status {
        code: i32::from(code),
        ..Status::default()
    }
}

fn problem_type() -> Header {
    Header {
        name: "content-type".into(),
        value: Problem::CONTENT_TYPE.into(),
    }
}

/// The first value of a name replaces existing ones; further values are appended.
fn options(headers: Vec<Header>) -> Vec<HeaderValueOption> {
    let mut seen = HashSet::new();
    let option = |Header { name, value }: Header| {
        let action = if seen.insert(name.clone()) {
            HeaderAppendAction::OverwriteIfExistsOrAdd
        } else {
            HeaderAppendAction::AppendIfExistsOrAdd
        };
        let (value, raw_value) = match String::from_utf8(value) {
            Ok(text) => (text, Vec::new()),
            Err(bytes) => (String::new(), bytes.into_bytes()),
        };
        HeaderValueOption {
            header: Some(HeaderValue {
                key: name,
                value,
                raw_value,
            }),
            append_action: action.into(),
            ..HeaderValueOption::default()
        }
    };
    headers.into_iter().map(option).collect()
}

/// `{"postern": {"cache": {"ttl_ms", "parts"}, "obligations": {…}}}`; absent parts are left out.
fn metadata(cache: Option<&CacheGrant>, obligations: Vec<Obligation>) -> Option<Struct> {
    let mut members = Vec::new();
    if let Some(grant) = cache {
        let parts = grant.parts.iter().map(Part::name).map(text).collect();
        let fields = [("ttl_ms", number(grant.ttl_ms)), ("parts", list(parts))];
        members.push(("cache", structure(fields)));
    }
    if !obligations.is_empty() {
        // A name can occur more than once, and no value may be lost.
        let mut named: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for Obligation { name, value } in obligations {
            named.entry(name).or_default().push(text(value));
        }
        let one_or_many = |mut values: Vec<Value>| match values.len() {
            1 => values.pop().unwrap_or_default(),
            _ => list(values),
        };
        members.push((
            "obligations",
            structure(
                named
                    .into_iter()
                    .map(|(name, values)| (name, one_or_many(values))),
            ),
        ));
    }
    (!members.is_empty()).then(|| Struct {
        fields: [("postern".to_owned(), structure(members))].into(),
    })
}

fn structure<N: Into<String>>(fields: impl IntoIterator<Item = (N, Value)>) -> Value {
    let fields = fields
        .into_iter()
        .map(|(name, value)| (name.into(), value))
        .collect();
    value(Kind::StructValue(Struct { fields }))
}

fn list(values: Vec<Value>) -> Value {
    value(Kind::ListValue(ListValue { values }))
}

fn text(text: String) -> Value {
    value(Kind::StringValue(text))
}

fn number(number: u32) -> Value {
    value(Kind::NumberValue(number.into()))
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests;
