//! The HTTP service that the host calls.

use std::fmt::Display;

use spin_sdk::http::{HeaderMap, IntoResponse, Request, Response};
use spin_sdk::http_service;
use spin_sdk::wasip3::http::types::ErrorCode;

use crate::decision::{Decision, PolicyInput, decide};

/// An error means that the policy cannot decide; the gate then refuses the request with 503.
#[http_service]
async fn authorize(request: Request) -> Result<impl IntoResponse, ErrorCode> {
    let input = input(&request)?;
    let decision = decide(&input).map_err(configuration_error)?;
    respond(decision).map_err(configuration_error)
}

/// Reads the `x-postern-` headers. The host sets all of them and removes client-sent headers of these names.
fn input(request: &Request) -> Result<PolicyInput<'_>, ErrorCode> {
    let headers = request.headers();
    let required = |name| {
        text(headers, name)?.ok_or_else(|| configuration_error(format_args!("the header {name} is missing")))
    };
    Ok(PolicyInput {
        config: required("x-postern-config")?,
        time: required("x-postern-time")?.parse().map_err(configuration_error)?,
        method: request.method().as_str(),
        path: request.uri().path(),
        roles: text(headers, "x-postern-roles")?.unwrap_or_default(),
        claims: text(headers, "x-postern-claims")?.unwrap_or_default(),
    })
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, ErrorCode> {
    let value = headers.get(name).map(|value| str::from_utf8(value.as_bytes()));
    value
        .transpose()
        .map_err(|_| configuration_error(format_args!("the header {name} is not UTF-8")))
}

fn respond(decision: Decision) -> Result<Response<String>, impl Display> {
    let response = Response::builder();
    match decision {
        Decision::Allow(None) => response.status(204).body(String::new()),
        Decision::Allow(Some((name, value))) => response
            .status(204)
            .header(format!("x-postern-set-{name}"), value)
            .body(String::new()),
        Decision::Deny {
            status,
            retry_after,
            problem,
        } => {
            let response = response
                .status(status)
                .header("content-type", "application/problem+json");
            let response = match retry_after {
                Some(seconds) => response.header("retry-after", seconds),
                None => response,
            };
            response.body(problem)
        }
    }
}

/// Writes the reason to the host's log; the client does not see it.
fn configuration_error(why: impl Display) -> ErrorCode {
    eprintln!("{why}");
    ErrorCode::ConfigurationError
}
