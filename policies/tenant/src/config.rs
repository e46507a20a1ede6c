//! The configuration.

use postern_sdk::Template;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Templates of paths that name the resource's tenant.
    #[serde(default)]
    pub(crate) paths: Vec<TenantPath>,
    /// Request header that names the resource's tenant.
    pub(crate) header: Option<String>,
    /// Whether a request must name a tenant.
    #[serde(default = "default_true")]
    pub(crate) required: bool,
    /// Location of the caller's tenant in the token's claims; replaces the identity's tenant.
    pub(crate) claim: Option<Pointer>,
    pub(crate) default_tenant: Option<TenantName>,
    /// Roles that may access other tenants.
    #[serde(default)]
    pub(crate) operators: Vec<String>,
    /// Header that passes the tenant to the upstream.
    pub(crate) set_header: Option<String>,
}

/// A path template with `{tenant}`.
#[derive(Deserialize)]
#[serde(try_from = "Template")]
pub(crate) struct TenantPath(pub(crate) Template);

/// A JSON pointer (RFC 6901).
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Pointer(pub(crate) String);

/// A tenant name, which has exactly one spelling.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct TenantName(String);

impl TenantName {
    /// Accepts 1 to 128 letters, digits, `-`, `_`, `.` and `~`: every decoder of paths, headers and claims leaves them
    /// unchanged.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
        (!text.is_empty() && text.len() <= 128 && text.bytes().all(plain)).then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TenantName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(&text).ok_or("a tenant name must be 1 to 128 letters, digits, `-`, `_`, `.` and `~`")
    }
}

impl TryFrom<String> for Pointer {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.starts_with('/') {
            Ok(Self(text))
        } else {
            Err("a JSON pointer must begin with `/`")
        }
    }
}

impl TryFrom<Template> for TenantPath {
    type Error = &'static str;

    fn try_from(template: Template) -> Result<Self, Self::Error> {
        if template.has("tenant") {
            Ok(Self(template))
        } else {
            Err("the template must contain `{tenant}`")
        }
    }
}

fn default_true() -> bool {
    true
}
