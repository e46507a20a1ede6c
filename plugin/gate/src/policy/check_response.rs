//! Parses the `CheckResponse`, strictly. An ambiguous response is a failure, which refuses the request.

use prost::Message;

use super::grant::Grant;
use super::messages::{
    CheckResponse, DeniedHttpResponse, HeaderAppendAction, HeaderValueOption, HttpResponse, Kind,
    OkHttpResponse, Struct, Value,
};
use super::{Allowance, AppendAction, Change, PolicyHost, PolicyResponse, Reply};

// gRPC status codes, which are also those of `google.rpc.Code`.
const OK: i32 = 0;
const DEADLINE_EXCEEDED: i32 = 4;
const UNAVAILABLE: i32 = 14;

/// The action for a header without `append` and `append_action`. It differs between the fields of the message.
#[derive(Clone, Copy)]
enum DefaultAction {
    Append,
    Overwrite,
}

impl PolicyResponse {
    /// Parses the policy host's `CheckResponse`.
    #[must_use]
    pub fn from_message(message: &[u8]) -> Self {
        if message.len() > PolicyHost::MAX_RESPONSE {
            return Self::Failed(format!(
                "the response has {} bytes, more than the limit",
                message.len()
            ));
        }
        match CheckResponse::decode(message) {
            Ok(response) => read(response),
            Err(_) => Self::Failed("the response is not a CheckResponse".to_owned()),
        }
    }

    /// The result of a call that ended without a response. `code` is its gRPC status.
    #[must_use]
    pub fn from_grpc_status(code: u32) -> Self {
        let why = format!("the call ended with the gRPC status {code}");
        if is_unavailable(i32::try_from(code).unwrap_or(-1)) {
            Self::Unavailable(why)
        } else {
            Self::Failed(why)
        }
    }
}

fn is_unavailable(code: i32) -> bool {
    code == UNAVAILABLE || code == DEADLINE_EXCEEDED
}

fn read(response: CheckResponse) -> PolicyResponse {
    let CheckResponse {
        status,
        http_response,
        dynamic_metadata,
    } = response;
    let code = status.as_ref().map(|status| status.code);
    match (code, http_response) {
        (_, Some(HttpResponse::Error(_))) => {
            let code = code.unwrap_or_default();
            let why = format!("the response is an error with status {code}");
            if is_unavailable(code) {
                PolicyResponse::Unavailable(why)
            } else {
                PolicyResponse::Failed(why)
            }
        }
        (Some(OK) | None, Some(HttpResponse::Ok(ok))) => match allowance(ok, dynamic_metadata.as_ref()) {
            Ok(allowance) => PolicyResponse::Allow(allowance),
            Err(why) => PolicyResponse::Failed(why.to_owned()),
        },
        (Some(OK), None) => PolicyResponse::Allow(Allowance {
            grant: dynamic_metadata.as_ref().and_then(grant),
            ..Allowance::default()
        }),
        (Some(code), Some(HttpResponse::Denied(denied))) if code != OK => match reply(denied) {
            Ok(reply) => PolicyResponse::Deny(Some(reply)),
            Err(why) => PolicyResponse::Failed(why.to_owned()),
        },
        (Some(code), None) if code != OK => PolicyResponse::Deny(None),
        // No status, or one that contradicts the HTTP response.
        _ => PolicyResponse::Failed("the response neither allows nor denies the request".to_owned()),
    }
}

fn allowance(ok: OkHttpResponse, metadata: Option<&Struct>) -> Result<Allowance, &'static str> {
    if !ok.query_parameters_to_set.is_empty() || !ok.query_parameters_to_remove.is_empty() {
        // The query may already have selected a limit or another rule.
        return Err("the response changes the query, which is not supported");
    }
    Ok(Allowance {
        request: changes(ok.headers, DefaultAction::Overwrite)?,
        remove: ok
            .headers_to_remove
            .into_iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
        response: changes(ok.response_headers_to_add, DefaultAction::Append)?,
        grant: metadata.and_then(grant),
    })
}

fn reply(denied: DeniedHttpResponse) -> Result<Reply, &'static str> {
    // An empty status is 403, as in Envoy.
    let status = match denied.status.map_or(0, |status| status.code) {
        0 => 403,
        code => u16::try_from(code)
            .ok()
            .filter(|code| (200..600).contains(code))
            .ok_or("the status of the denial is invalid")?,
    };
    let mut headers: Vec<(String, Vec<u8>)> = Vec::new();
    for change in changes(denied.headers, DefaultAction::Overwrite)? {
        let exists = headers.iter().any(|(name, _)| *name == change.name);
        match change.action {
            AppendAction::AddIfAbsent if exists => continue,
            AppendAction::OverwriteIfExists if !exists => continue,
            AppendAction::Overwrite | AppendAction::OverwriteIfExists => {
                headers.retain(|(name, _)| *name != change.name)
            }
            AppendAction::Append | AppendAction::AddIfAbsent => {}
        }
        headers.push((change.name, change.value));
    }
    Ok(Reply {
        status,
        headers,
        body: denied.body,
    })
}

fn changes(options: Vec<HeaderValueOption>, default: DefaultAction) -> Result<Vec<Change>, &'static str> {
    options
        .into_iter()
        .map(|option| change(option, default))
        .collect()
}

fn change(option: HeaderValueOption, default: DefaultAction) -> Result<Change, &'static str> {
    let action = match (&option.append, HeaderAppendAction::try_from(option.append_action)) {
        (Some(append), _) if append.value => AppendAction::Append,
        (Some(_), _) => AppendAction::Overwrite,
        (None, Ok(HeaderAppendAction::AppendIfExistsOrAdd)) => match default {
            DefaultAction::Append => AppendAction::Append,
            DefaultAction::Overwrite => AppendAction::Overwrite,
        },
        (None, Ok(HeaderAppendAction::AddIfAbsent)) => AppendAction::AddIfAbsent,
        (None, Ok(HeaderAppendAction::OverwriteIfExistsOrAdd)) => AppendAction::Overwrite,
        (None, Ok(HeaderAppendAction::OverwriteIfExists)) => AppendAction::OverwriteIfExists,
        (None, Err(_)) => return Err("the append_action of a header is invalid"),
    };
    let header = option.header.ok_or("a header option has no header")?;
    Ok(Change {
        name: header.key.to_ascii_lowercase(),
        value: if header.raw_value.is_empty() {
            header.value.into_bytes()
        } else {
            header.raw_value
        },
        action,
    })
}

/// Parses `{"postern": {"cache": {"ttl_ms": number, "parts": [text]}}}`. With any other metadata, the decision is not
/// cached.
fn grant(metadata: &Struct) -> Option<Grant> {
    let cache = field(field(metadata, "postern")?, "cache")?;
    let Some(Kind::Number(ttl_ms)) = cache.fields.get("ttl_ms")?.kind else {
        return None;
    };
    let Some(Kind::List(list)) = &cache.fields.get("parts")?.kind else {
        return None;
    };
    let texts = list.values.iter().map(text).collect::<Option<Vec<_>>>()?;
    Grant::new(ttl_ms, texts.into_iter())
}

fn field<'a>(of: &'a Struct, name: &str) -> Option<&'a Struct> {
    match &of.fields.get(name)?.kind {
        Some(Kind::Struct(inner)) => Some(inner),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    match &value.kind {
        Some(Kind::Text(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
