//! A policy module: a signed licence with expiry and claims.

mod config;
mod token;

use std::time::Duration;

use postern_sdk::{Allowance, Decision, Denial, Error, Part, Request, deny};

use config::{Config, Source};
use token::{License, Validity};

postern_sdk::policy!(authorize);

fn authorize(request: &Request) -> Result<Decision, Error> {
    let config: Config = postern_sdk::config()?;
    Ok(decide(&config, request).unwrap_or_else(Decision::from))
}

fn decide(config: &Config, request: &Request) -> Result<Decision, Denial> {
    let invalid = || deny(403, "license_invalid", "The licence is not valid.");
    let token = license_token(&config.source, request)?;
    let license = License::verify(token, &config.key).map_err(|_| invalid())?;
    if config.require_expiry && !license.has_expiry() {
        return Err(invalid());
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "a double has millisecond precision for 285,000 years"
    )]
    let now = request.time as f64 / 1000.0;
    let remaining = match license.validity(now, config.leeway_seconds.into()) {
        Validity::Valid(remaining) => remaining,
        Validity::Expired => return Err(deny(403, "license_expired", "The licence has expired.")),
        Validity::NotYetValid => {
            return Err(deny(
                403,
                "license_not_yet_valid",
                "The licence is not valid yet.",
            ));
        }
    };
    for rule in config.features.iter().filter(|rule| rule.applies_to(request)) {
        if !license.features.contains(&rule.feature) {
            let message = format!("The licence does not include {}.", rule.feature);
            return Err(deny(403, "feature_missing", message));
        }
    }
    Ok(with_cache_grant(allowance(license), remaining, config).into())
}

fn license_token<'a>(source: &'a Source, request: &'a Request) -> Result<&'a str, Denial> {
    let token = match source {
        Source::Config(token) => token.as_str(),
        Source::Header(name) => {
            let value = request.single_header(name)?.unwrap_or_default();
            // A value that is not UTF-8 fails verification.
            str::from_utf8(value).unwrap_or("?")
        }
    };
    match token.trim() {
        "" => Err(deny(403, "license_missing", "A licence is required.")),
        token => Ok(token),
    }
}

fn allowance(license: License) -> Allowance {
    let allowance = Decision::allow().obligation("license_subject", license.subject);
    match license.seats {
        Some(seats) => allowance.obligation("license_seats", seats.to_string()),
        None => allowance,
    }
}

/// Adds the cache grant. It ends no later than the licence.
fn with_cache_grant(allowance: Allowance, remaining: Option<f64>, config: &Config) -> Allowance {
    if config.cache_ms == 0 {
        return allowance;
    }
    let configured = Duration::from_millis(config.cache_ms.into());
    // An expiry that overflows `Duration` is later than any cache lifetime.
    let ttl = remaining
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .map_or(configured, |remaining| remaining.min(configured));
    let mut parts = Vec::new();
    if !config.features.is_empty() {
        parts.extend([Part::Method, Part::Path]);
    }
    if let Source::Header(name) = &config.source {
        parts.push(Part::Header(name.clone()));
    }
    allowance.cache(ttl, parts)
}

#[cfg(test)]
mod tests;
