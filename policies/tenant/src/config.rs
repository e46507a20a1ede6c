//! What an operator writes.

use postern_sdk::Template;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Where a path names the tenant whose resource it is.
    #[serde(default)]
    pub(crate) paths: Vec<TenantPath>,
    /// The header that names it, if one does.
    pub(crate) header: Option<String>,
    /// Whether a request must name a tenant.
    #[serde(default = "default_true")]
    pub(crate) required: bool,
    /// Where the caller's own tenant stands in the token's claims, instead of the identity's.
    pub(crate) claim: Option<Pointer>,
    pub(crate) default_tenant: Option<TenantName>,
    /// Roles that may cross.
    #[serde(default)]
    pub(crate) operators: Vec<String>,
    /// The header by which the upstream learns the tenant.
    pub(crate) set_header: Option<String>,
}

/// A template with a `{tenant}`.
#[derive(Deserialize)]
#[serde(try_from = "Template")]
pub(crate) struct TenantPath(pub(crate) Template);

/// A JSON pointer (RFC 6901).
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Pointer(pub(crate) String);

/// A tenant's name, in one spelling only.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct TenantName(String);

impl TenantName {
    /// Letters, digits, `-`, `_`, `.` and `~`: what means the same in a path, a header and a claim, whoever decodes
    /// it.
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
        Self::new(&text).ok_or("a tenant's name is of letters, digits, `-`, `_`, `.` and `~`")
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
            Err("the template has no `{tenant}`")
        }
    }
}

fn default_true() -> bool {
    true
}
