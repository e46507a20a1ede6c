//! What an operator writes.

use postern_sdk::{Request, Template};
use serde::Deserialize;
use serde_json::{Number, Value};

use crate::pointer::Pointer;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) rules: Vec<Rule>,
    /// What becomes of a request that no rule is for.
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

/// What bodies of certain requests must satisfy.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    pub(crate) name: String,
    methods: Option<Vec<String>>,
    path: Template,
    /// Fields that must be there, and not be null.
    #[serde(default)]
    pub(crate) require: Vec<Pointer>,
    #[serde(default)]
    pub(crate) limits: Vec<Limit>,
    #[serde(default)]
    pub(crate) deny: Vec<DenyList>,
    #[serde(default)]
    pub(crate) allow: Vec<AllowList>,
}

/// A number within bounds, both of which may be reached.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limit {
    pub(crate) at: Pointer,
    pub(crate) min: Option<Number>,
    pub(crate) max: Option<Number>,
    #[serde(default)]
    pub(crate) optional: bool,
}

/// Values that a field must not have, if it is there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DenyList {
    pub(crate) at: Pointer,
    pub(crate) values: Vec<Value>,
}

/// Values of which a field must have one.
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
