//! What an operator writes.

use serde::Deserialize;

use crate::window::Window;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) windows: Vec<Window>,
    /// Who may come in while a window is open.
    #[serde(default)]
    pub(crate) exempt_roles: Vec<String>,
    /// Methods that may: those that change nothing.
    #[serde(default)]
    pub(crate) exempt_methods: Vec<String>,
    pub(crate) plans: Option<Plans>,
}

/// What a caller has paid for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plans {
    /// Where the plan stands in the token's claims: a JSON pointer (RFC 6901).
    #[serde(deserialize_with = "pointer")]
    pub(crate) claim: String,
    /// The plan of callers whose token names none.
    pub(crate) default: Option<String>,
    #[serde(default)]
    pub(crate) gates: Vec<PlanGate>,
    /// The header by which the upstream learns the plan.
    #[serde(default, deserialize_with = "header_name")]
    pub(crate) set_header: Option<String>,
}

/// Requests that some plans do not include.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanGate {
    methods: Option<Vec<String>>,
    prefix: String,
    pub(crate) plans: Vec<String>,
}

impl PlanGate {
    /// A prefix ends at the end of a segment: `/v1/export` is not the prefix of `/v1/exports`.
    pub(crate) fn applies_to(&self, method: &str, path: &str) -> bool {
        let method_fits = match &self.methods {
            None => true,
            Some(methods) => methods.iter().any(|one| one == method),
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
            "a header's name is of letters, digits, `-` and `_`",
        ))
    }
}
