//! The configuration.

use serde::Deserialize;

use crate::window::Window;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) windows: Vec<Window>,
    /// Roles that are exempt from maintenance windows.
    #[serde(default)]
    pub(crate) exempt_roles: Vec<String>,
    /// Methods that are exempt, usually the safe ones.
    #[serde(default)]
    pub(crate) exempt_methods: Vec<String>,
    pub(crate) plans: Option<Plans>,
}

/// Access by the caller's plan.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plans {
    /// JSON pointer (RFC 6901) to the plan in the token's claims.
    #[serde(deserialize_with = "pointer")]
    pub(crate) claim: String,
    /// Plan of callers whose token has none.
    pub(crate) default: Option<String>,
    #[serde(default)]
    pub(crate) gates: Vec<PlanGate>,
    /// Header that passes the plan to the upstream.
    #[serde(default, deserialize_with = "header_name")]
    pub(crate) set_header: Option<String>,
}

/// Requests that require one of certain plans.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanGate {
    methods: Option<Vec<String>>,
    prefix: String,
    pub(crate) plans: Vec<String>,
}

impl PlanGate {
    /// Prefixes match whole segments: `/v1/export` does not match `/v1/exports`.
    pub(crate) fn applies_to(&self, method: &str, path: &str) -> bool {
        let method_fits = match &self.methods {
            None => true,
            Some(methods) => methods.iter().any(|allowed| allowed == method),
        };
        let path_fits = path
            .strip_prefix(self.prefix.as_str())
            .is_some_and(|rest| self.prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'));
        method_fits && path_fits
    }
}

fn pointer<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.starts_with('/') {
        Ok(text)
    } else {
        Err(serde::de::Error::custom("a JSON pointer must begin with `/`"))
    }
}

fn header_name<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(deserializer)?.to_ascii_lowercase();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.is_empty() && name.bytes().all(plain) {
        Ok(Some(name))
    } else {
        Err(serde::de::Error::custom(
            "a header name must be letters, digits, `-` and `_`",
        ))
    }
}
