//! Loads a configuration and compiles its gate, collecting every error.

use postern_config::ConfigErrors;
use postern_gate::Gate;
use postern_gate::config::{self, Config};
use serde_json::Value;

use crate::document::{self, Problem};
use crate::input;
use crate::secrets::{self, Environment, UnsetSecret};

/// A configuration and its compiled gate.
pub(crate) struct Loaded {
    /// The document that `config` was parsed from.
    pub(crate) document: Value,
    pub(crate) config: Config,
    pub(crate) gate: Gate,
    /// Unset secrets; random bytes take their place.
    pub(crate) unset_secrets: Vec<Problem>,
    /// Secrets that are set, but short or shared.
    pub(crate) secret_warnings: Vec<Problem>,
}

/// Why a configuration cannot be compiled.
#[derive(Debug)]
pub(crate) struct Invalid {
    pub(crate) errors: Vec<Problem>,
    /// The checks that these errors prevented.
    pub(crate) unchecked: Option<&'static str>,
}

impl Invalid {
    /// An error about the whole file.
    pub(crate) fn whole(message: impl Into<String>) -> Self {
        Self {
            errors: vec![Problem::at("", message)],
            unchecked: None,
        }
    }
}

/// Reads and compiles the configuration in a file, `-` for standard input, with this process's environment.
pub(crate) fn file(path: &str, unset: UnsetSecret) -> Result<Loaded, Invalid> {
    let text = input::text(path)
        .map_err(|error| Invalid::whole(format!("cannot be read: {}", error.root_cause())))?;
    load(&text, unset, &secrets::secret)
}

/// Reads and compiles a configuration.
pub(crate) fn load(
    text: &str,
    unset: UnsetSecret,
    lookup: &dyn Fn(&str) -> Option<Vec<u8>>,
) -> Result<Loaded, Invalid> {
    let invalid = |errors: Vec<Problem>, unchecked| Invalid { errors, unchecked };
    let document = document::parse(text).map_err(|problem| invalid(vec![problem], None))?;
    let config = config::from_value(document.clone()).map_err(|errors| {
        let unchecked = "names, keys and limits are checked once these are fixed";
        invalid(problems(&errors), Some(unchecked))
    })?;
    let environment = Environment::new(unset, lookup).map_err(|error| Invalid::whole(error.to_string()))?;
    let mut errors = Environment::invalid_names(&config);
    match Gate::compile(&config, &environment) {
        Ok(gate) if errors.is_empty() => Ok(Loaded {
            unset_secrets: environment.unset_secrets(&config),
            secret_warnings: environment.secret_warnings(&config),
            document,
            config,
            gate,
        }),
        Ok(_) => Err(invalid(errors, None)),
        Err(found) => {
            errors.extend(problems(&found));
            Err(invalid(errors, None))
        }
    }
}

fn problems(errors: &ConfigErrors) -> Vec<Problem> {
    let issues = errors.issues().iter();
    issues
        .map(|issue| Problem::at(issue.path.clone(), issue.message.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEBHOOK: &str = "
signatures: {hook: {scheme: github, secrets: [{env: HOOK_SECRET}]}}
rules: [{name: hook, authenticate: {any: [signatures/hook]}}]
";

    #[test]
    fn an_unset_secret_is_a_warning_or_an_error() {
        let none = |_: &str| None;
        let set = |_: &str| Some(vec![b'x'; 32]);
        let loaded = load(WEBHOOK, UnsetSecret::Placeholder, &none)
            .unwrap_or_else(|_| panic!("a placeholder is enough"));
        assert_eq!(loaded.unset_secrets.len(), 1);
        assert_eq!(loaded.unset_secrets[0].path, "signatures.hook.secrets[0].env");
        let invalid = load(WEBHOOK, UnsetSecret::Error, &none).err().unwrap();
        assert_eq!(invalid.errors.len(), 1, "{invalid:?}");
        assert!(
            invalid.errors[0].message.contains("HOOK_SECRET is not set"),
            "{invalid:?}"
        );
        assert!(load(WEBHOOK, UnsetSecret::Error, &set).is_ok_and(|loaded| loaded.unset_secrets.is_empty()));
    }

    #[test]
    fn a_short_or_shared_secret_is_a_warning() {
        let shared = "
signatures:
  hook: {scheme: github, secrets: [{env: HOOK_SECRET}]}
  bots:
    scheme: keyed
    header_prefix: x-bot-
    keys: [{id: a, secrets: [{env: A}, {env: HOOK_SECRET}]}, {id: b, secrets: [{env: B}]}]
rules: [{name: hook, authenticate: {any: [signatures/hook, signatures/bots]}}]
";
        for (text, length, places) in [
            (WEBHOOK, 31, &["signatures.hook.secrets[0].env"][..]),
            (WEBHOOK, 32, &[]),
            (shared, 32, &["signatures.hook.secrets[0].env"]),
            (shared, 0, &["signatures.hook.secrets[0].env"]),
        ] {
            let value = |name: &str| (length > 0).then(|| name.repeat(32).bytes().take(length).collect());
            let loaded =
                load(text, UnsetSecret::Placeholder, &value).unwrap_or_else(|invalid| panic!("{invalid:?}"));
            let found: Vec<&str> = loaded
                .secret_warnings
                .iter()
                .map(|problem| problem.path.as_str())
                .collect();
            assert_eq!(found, places, "{:?}", loaded.secret_warnings);
        }
    }

    #[test]
    fn a_secret_in_place_of_a_name_is_not_printed() {
        for unset in [UnsetSecret::Placeholder, UnsetSecret::Error] {
            let text = WEBHOOK.replace("HOOK_SECRET", "hunter-2");
            let invalid = load(&text, unset, &|_| None).err().unwrap();
            assert_eq!(invalid.errors.len(), 1);
            assert!(!format!("{invalid:?}").contains("hunter-2"));
        }
    }
}
