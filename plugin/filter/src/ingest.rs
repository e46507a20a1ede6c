//! Calls to the audit log of the policy host, and its responses.

use std::time::Duration;

use postern_gate::PolicyHost;
use postern_gate::audit::{Audit, durable_count};
use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType};

use crate::counters::Counters;

/// The proxy finds the host by its cluster; a cluster's name need not be a valid authority.
const AUTHORITY: &str = "postern-host";

/// Headers of a call.
pub(crate) type Fields = Vec<(&'static str, String)>;

/// The result of a call.
pub(crate) enum IngestResponse {
    /// So many events are durable.
    Durable(u64),
    /// Any other response: its status.
    Other(String),
    /// The call ended without a response in time.
    Missing,
}

impl IngestResponse {
    /// Reads the response to the call whose callback this is.
    pub(crate) fn read(headers: usize, body_size: usize) -> Self {
        // Without a response there is no header map, and the SDK's calls panic where there is none.
        if headers == 0 {
            return Self::Missing;
        }
        let status = hostcalls::get_map_value_bytes(MapType::HttpCallResponseHeaders, ":status");
        let status = status.ok().flatten().unwrap_or_default();
        let body = if body_size == 0 || body_size > Audit::MAX_RESPONSE {
            None
        } else {
            hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, body_size)
                .ok()
                .flatten()
        };
        match durable_count(&status, &body.unwrap_or_default()) {
            Some(count) => Self::Durable(count),
            None => Self::Other(String::from_utf8_lossy(&status).into_owned()),
        }
    }

    /// Counts the response to a call with this number of events. True if it confirms that all of them are durable.
    pub(crate) fn confirms(&self, events: u64, counters: &Counters) -> bool {
        match self {
            Self::Durable(count) if *count == events => {
                counters.add("postern.audit.acknowledged", events);
                return true;
            }
            Self::Durable(count) => {
                counters.count("postern.audit.refused.200");
                counters.warn(|| {
                    format!(
                        "the audit log: the host confirmed {count} events as durable, but {events} were sent"
                    )
                });
            }
            Self::Other(status) => {
                // Anything but three digits is not an HTTP status.
                let known = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
                let status = if known { status.as_str() } else { "none" };
                counters.count(&format!("postern.audit.refused.{status}"));
                counters.warn(|| format!("the audit log: the host responded with {status}{}", hint(status)));
            }
            Self::Missing => {
                counters.count("postern.audit.unreachable");
                counters.warn(|| "the audit log: no response from the host in time".to_owned());
            }
        }
        false
    }
}

/// The operator's next step.
fn hint(status: &str) -> &'static str {
    match status {
        "200" => " but did not confirm any events; is this the policy host?",
        "400" | "413" | "415" | "422" => {
            ": it cannot read this gate's events; do both have the same version?"
        }
        "401" | "403" => ": it does not accept this gate; is host.token the token of the host?",
        "404" | "405" => ": it has no audit log; is `audit` configured in host.yaml?",
        "503" | "504" => ": it cannot store events at present, or the proxy cannot reach it",
        _ => "",
    }
}

/// Sends events. Returns the call's token.
///
/// # Errors
/// Why they cannot be sent.
pub(crate) fn post(
    host: &PolicyHost,
    body: &str,
    trace: &[(&'static str, String)],
    timeout: Duration,
) -> Result<u32, String> {
    let mut headers = vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", AUTHORITY),
        (":path", Audit::PATH),
        ("content-type", Audit::CONTENT_TYPE),
    ];
    headers.extend(host.authorization().map(|value| ("authorization", value)));
    headers.extend(trace.iter().map(|(name, value)| (*name, value.as_str())));
    hostcalls::dispatch_http_call(&host.cluster, headers, Some(body.as_bytes()), vec![], timeout).map_err(
        |status| {
            format!(
                "cluster \"{}\" cannot be called ({status:?}); is it defined, and are its endpoints reachable?",
                host.cluster
            )
        },
    )
}
