//! The configuration.

use postern_sdk::{Request, Template};
use serde::Deserialize;
use serde_json::{Number, Value};

use crate::pointer::Pointer;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) rules: Vec<Rule>,
    /// Decision on requests that no rule applies to.
    #[serde(default)]
    pub(crate) otherwise: DefaultAction,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DefaultAction {
    Allow,
    #[default]
    Deny,
}

/// Requirements on the body of matching requests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) name: String,
    methods: Option<Vec<String>>,
    path: Template,
    /// Fields that must be present and not null.
    #[serde(default)]
    pub(crate) require: Vec<Pointer>,
    #[serde(default)]
    pub(crate) limits: Vec<Limit>,
    #[serde(default)]
    pub(crate) deny: Vec<DenyList>,
    #[serde(default)]
    pub(crate) allow: Vec<AllowList>,
}

/// Inclusive limits of a number.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    pub(crate) at: Pointer,
    pub(crate) min: Option<Number>,
    pub(crate) max: Option<Number>,
    #[serde(default)]
    pub(crate) optional: bool,
}

/// Values that a field must not have, if it is present.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DenyList {
    pub(crate) at: Pointer,
    pub(crate) values: Vec<Value>,
}

/// The values that a field may have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AllowList {
    pub(crate) at: Pointer,
    pub(crate) values: Vec<Value>,
    #[serde(default)]
    pub(crate) optional: bool,
}

impl Rule {
    pub(crate) fn applies_to(&self, request: &Request) -> bool {
        let method_fits = match &self.methods {
            None => true,
            Some(methods) => methods.contains(&request.method),
        };
        method_fits && self.path.matches(&request.path)
    }
}
