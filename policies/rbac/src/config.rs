//! The configuration.

use std::borrow::Cow;

use postern_sdk::{Request, Template};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config<'a> {
    #[serde(borrow)]
    pub(crate) rules: Vec<Rule<'a>>,
    #[serde(default)]
    pub(crate) default: DefaultAction,
    #[serde(default)]
    pub(crate) cache_ms: u32,
}

/// Decision on requests that no rule matches.
#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DefaultAction {
    Allow,
    #[default]
    Deny,
}

#[derive(Deserialize)]
#[serde(try_from = "RawRule<'a>", bound(deserialize = "'de: 'a"))]
pub(crate) struct Rule<'a> {
    methods: Option<Vec<Text<'a>>>,
    path: Template<Text<'a>>,
    pub(crate) access: Access<'a>,
}

pub(crate) enum Access<'a> {
    Open,
    Roles(Vec<Text<'a>>),
}

/// A borrowed string. Serde borrows a `Cow` only in a field marked `borrow`, which elements of a list are not.
#[derive(Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

impl AsRef<str> for Text<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule<'a> {
    #[serde(borrow)]
    methods: Option<Vec<Text<'a>>>,
    #[serde(borrow)]
    path: Template<Text<'a>>,
    #[serde(borrow, default)]
    roles: Vec<Text<'a>>,
    #[serde(default)]
    open: bool,
}

impl<'a> TryFrom<RawRule<'a>> for Rule<'a> {
    type Error = &'static str;

    fn try_from(raw: RawRule<'a>) -> Result<Self, Self::Error> {
        let access = match (raw.open, raw.roles) {
            (true, roles) if roles.is_empty() => Access::Open,
            (true, _) => return Err("an open rule must not have `roles`"),
            (false, roles) if roles.is_empty() => return Err("a rule needs `roles` or `open: true`"),
            (false, roles) => Access::Roles(roles),
        };
        if raw.methods.as_ref().is_some_and(Vec::is_empty) {
            return Err("`methods` must not be empty");
        }
        Ok(Self {
            methods: raw.methods,
            path: raw.path,
            access,
        })
    }
}

impl Rule<'_> {
    pub(crate) fn matches(&self, request: &Request) -> bool {
        let method_fits = match &self.methods {
            None => true,
            Some(methods) => methods.iter().any(|method| method.0 == request.method),
        };
        method_fits && self.path.matches(&request.path)
    }
}
