//! A policy module: callers can access only resources of their own tenant.

mod config;

use postern_sdk::json;
use postern_sdk::{Decision, Denial, Error, Request, deny};

use config::{Config, TenantName};

postern_sdk::policy!(authorize);

/// Never frees, because an instance handles one request. It uses the initial memory first. The standard library's
/// allocator grows memory at once, which costs the host a system call then and another one on reset.
#[cfg(target_arch = "wasm32")]
#[global_allocator]
static HEAP: mini_alloc::MiniAlloc = mini_alloc::MiniAlloc::INIT;

fn authorize(request: &Request) -> Result<Decision, Error> {
    let config: Config = postern_sdk::config()?;
    if config.header.is_none() && config.paths.is_empty() && config.set_header.is_none() {
        let missing =
            "set at least one of `paths`, `header` and `set_header`: without them the policy has no effect";
        return Err(Error::Misconfigured(missing.into()));
    }
    Ok(decide(&config, request).unwrap_or_else(Decision::from))
}

fn decide(config: &Config, request: &Request) -> Result<Decision, Denial> {
    let requested_tenant = requested_tenant(config, request)?;
    if requested_tenant.is_none() && config.required && !(config.paths.is_empty() && config.header.is_none())
    {
        return Err(deny(403, "tenant_missing", "The request does not name a tenant."));
    }
    let caller_tenant = caller_tenant(config, request)?;
    let crosses = match (&requested_tenant, &caller_tenant) {
        (Some(requested_tenant), Some(caller_tenant)) => requested_tenant != caller_tenant,
        (Some(_), None) => true,
        (None, Some(_)) => false,
        (None, None) => return Err(no_tenant()),
    };
    let mut allowance = Decision::allow();
    if crosses {
        if !config.operators.iter().any(|role| request.has_role(role)) {
            return Err(match caller_tenant {
                Some(_) => deny(403, "tenant_mismatch", "The resource belongs to another tenant."),
                None => no_tenant(),
            });
        }
        let tenant = requested_tenant.as_ref().map_or("", TenantName::as_str);
        allowance = allowance.obligation("tenant_crossed", tenant);
    }
    if let (Some(header), Some(tenant)) = (&config.set_header, requested_tenant.or(caller_tenant)) {
        allowance = allowance.header(header.as_str(), tenant.as_str());
    }
    Ok(allowance.into())
}

fn no_tenant() -> Denial {
    deny(403, "tenant_unknown", "The caller does not belong to a tenant.")
}

/// The tenant of the requested resource. If both path and header name one, they must agree, because the upstream could
/// use either.
fn requested_tenant(config: &Config, request: &Request) -> Result<Option<TenantName>, Denial> {
    let invalid = || {
        deny(
            400,
            "tenant_invalid",
            "The request names a tenant in an invalid or ambiguous way.",
        )
    };
    let mut requested_tenant: Option<TenantName> = None;
    let in_path = config
        .paths
        .iter()
        .find_map(|path| path.0.capture(&request.path, "tenant"));
    if let Some(text) = in_path {
        requested_tenant = Some(TenantName::new(text).ok_or_else(invalid)?);
    }
    let in_header = match &config.header {
        Some(header) => request.single_header(header).map_err(|_| invalid())?,
        None => None,
    };
    if let Some(value) = in_header {
        let text = str::from_utf8(value).map_err(|_| invalid())?;
        let in_header = TenantName::new(text).ok_or_else(invalid)?;
        if requested_tenant
            .as_ref()
            .is_some_and(|in_path| *in_path != in_header)
        {
            return Err(invalid());
        }
        requested_tenant = Some(in_header);
    }
    Ok(requested_tenant)
}

/// The caller's authenticated tenant, or the default for callers without one.
fn caller_tenant(config: &Config, request: &Request) -> Result<Option<TenantName>, Denial> {
    let from_identity = match (&config.claim, &request.identity) {
        (_, None) => None,
        (None, Some(identity)) => identity.tenant.clone(),
        (Some(pointer), Some(identity)) => {
            let claims = json::parse(identity.claims.as_bytes()).map_err(|_| no_tenant())?;
            match claims.pointer(&pointer.0) {
                None | Some(serde_json::Value::Null) => None,
                Some(serde_json::Value::String(text)) => Some(text.clone()),
                // A claim of another type must not fall back to the default.
                Some(_) => return Err(no_tenant()),
            }
        }
    };
    match from_identity {
        Some(text) => TenantName::new(&text).map(Some).ok_or_else(no_tenant),
        None => Ok(config.default_tenant.clone()),
    }
}

#[cfg(test)]
mod tests;
