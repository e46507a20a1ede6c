//! A policy module: k of n approvals over the canonical body.
//!
//! An approval is an Ed25519 signature over a text that names the service, the method, the path, a time and the digest
//! of the body in its canonical form (RFC 8785). The README says how to make one.

mod approval;
mod config;
mod exact_numbers;

use postern_sdk::{Decision, Denial, Error, Request, deny, json};
use serde_json::Value;

use config::{Condition, Config};

postern_sdk::policy!(authorize);

fn authorize(request: &Request) -> Result<Decision, Error> {
    let config: Config = postern_sdk::config()?;
    Ok(decide(&config, request).unwrap_or_else(Decision::from))
}

fn decide(config: &Config, request: &Request) -> Result<Decision, Denial> {
    let body = request.body.as_deref().unwrap_or_default();
    if body.is_empty() {
        return Err(deny(400, "body_missing", "The request needs a JSON body."));
    }
    let document = json::parse(body).map_err(|_| body_invalid())?;
    let applies = config
        .when
        .as_ref()
        .map_or(Ok(true), |when| applies(when, &document))?;
    if !applies {
        return Ok(Decision::allow().into());
    }
    if !exact_numbers::numbers_are_exact(body) {
        return Err(body_invalid());
    }
    let canonical = serde_json_canonicalizer::to_vec(&document).map_err(|_| body_invalid())?;
    let presented = approval::presented(request).map_err(|_| {
        deny(
            400,
            "approvals_too_many",
            "The request carries too many approvals.",
        )
    })?;
    if presented.is_empty() {
        return Err(quorum_missing());
    }
    let expires = expires(config, request)?;
    let statement =
        approval::statement(request, &config.audience, expires, &canonical).ok_or_else(quorum_missing)?;
    let approvers = approval::approvers(&presented, &config.keys, &statement, config.required);
    if approvers.len() < config.required {
        return Err(quorum_missing());
    }
    Ok(Decision::allow()
        .obligation("approved_by", approvers.join(","))
        .into())
}

/// Whether the body needs approvals. A missing value or one that is not a string is invalid: the upstream could still
/// treat the body as one that needs them.
fn applies(when: &Condition, document: &Value) -> Result<bool, Denial> {
    match document.pointer(&when.at) {
        Some(Value::String(value)) => Ok(when.values.contains(value)),
        _ => Err(body_invalid()),
    }
}

/// The expiry of the approvals, in seconds since 1970: in the future, and within the maximum lifetime.
fn expires(config: &Config, request: &Request) -> Result<u64, Denial> {
    let header = "x-approval-expires";
    let invalid = || {
        deny(
            400,
            "approval_invalid",
            format!("{header} must be a single time in seconds since 1970."),
        )
    };
    let value = request.single_header(header).map_err(|_| invalid())?;
    let digits = str::from_utf8(value.unwrap_or_default()).map_err(|_| invalid())?;
    if digits.is_empty() || digits.len() > 12 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    let expires: u64 = digits.parse().map_err(|_| invalid())?;
    let now = request.time / 1000;
    if expires <= now {
        return Err(deny(403, "approval_expired", "The approvals have expired."));
    }
    if expires - now > config.max_lifetime_seconds {
        return Err(deny(
            403,
            "approval_too_long",
            "The approvals are valid for too long.",
        ));
    }
    Ok(expires)
}

fn body_invalid() -> Denial {
    deny(400, "body_invalid", "The body is not JSON, or is ambiguous JSON.")
}

fn quorum_missing() -> Denial {
    deny(403, "quorum_missing", "The request needs more valid approvals.")
}

#[cfg(test)]
mod tests;
