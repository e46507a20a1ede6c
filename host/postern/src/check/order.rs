//! Problems in the order of rules: unreachable rules, and open rules before guarded ones.

use postern_gate::RuleConflict;
use postern_gate::config::Signature;

use crate::document::Problem;
use crate::load::Loaded;

/// The methods registered with IANA; any other is probably a mistake.
const METHODS: [&str; 40] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "CONNECT",
    "COPY",
    "DELETE",
    "GET",
    "HEAD",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "OPTIONS",
    "ORDERPATCH",
    "PATCH",
    "POST",
    "PRI",
    "PROPFIND",
    "PROPPATCH",
    "PUT",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "TRACE",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

pub(super) fn warnings(loaded: &Loaded) -> Vec<Problem> {
    let named = |rule: usize| {
        let name = loaded
            .config
            .rules
            .get(rule)
            .map_or("", |rule| rule.name.as_str());
        format!("rules[{rule}] (\"{name}\")")
    };
    let conflicts = loaded.gate.rule_conflicts().into_iter();
    let conflicts = conflicts.map(|found| match found {
        RuleConflict::Unreachable { rule, by } => {
            let names: Vec<String> = by.iter().take(3).map(|rule| named(*rule)).collect();
            let more = match by.len().saturating_sub(names.len()) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let take = if by.len() == 1 { "takes" } else { "take" };
            let message = format!(
                "is never reached: {}{more} {take} every request that it matches; move it to the front, or remove it",
                names.join(", ")
            );
            Problem::at(format!("rules[{rule}]"), message)
        }
        RuleConflict::Shadowed {
            open,
            guarded,
            example,
        } => {
            let message = format!(
                "is open and takes requests that {} would guard, such as {example}; move it after that rule, or narrow \
                 its match",
                named(guarded)
            );
            Problem::at(format!("rules[{open}]"), message)
        }
    });
    conflicts
        .chain(unregistered_methods(loaded))
        .chain(shadowed_credentials(loaded))
        .collect()
}

/// Entries whose credential uses the header of an earlier entry: the earlier one decides.
fn shadowed_credentials(loaded: &Loaded) -> Vec<Problem> {
    let config = &loaded.config;
    let header = |way: &str| {
        let (kind, name) = way.split_once('/')?;
        match kind {
            "api_keys" => config.api_keys.get(name).map(|set| set.header.0.clone()),
            "signatures" => config.signatures.get(name).map(|signature| match signature {
                Signature::Github { .. } => "x-hub-signature-256".to_owned(),
                Signature::Keyed { header_prefix, .. } => format!("{}signature", header_prefix.0),
            }),
            _ => None,
        }
    };
    let mut problems = Vec::new();
    for (rule, index, any) in config.rules.iter().enumerate().flat_map(|(rule, config)| {
        let any = config
            .authenticate
            .as_ref()
            .map_or(&[][..], |authenticate| &authenticate.any);
        (0..any.len()).map(move |index| (rule, index, any))
    }) {
        let (before, rest) = any.split_at(index);
        let Some((entry, header_name)) = rest.first().and_then(|entry| Some((entry, header(entry)?))) else {
            continue;
        };
        let earlier = before
            .iter()
            .find(|earlier| header(earlier).as_ref() == Some(&header_name));
        if let Some(earlier) = earlier {
            let message = format!(
                "{entry} is never used: {earlier} reads the same header ({header_name}), and the first credential that a \
                 request carries decides; merge both into one entry"
            );
            problems.push(Problem::at(
                format!("rules[{rule}].authenticate.any[{index}]"),
                message,
            ));
        }
    }
    problems
}

/// Methods that are probably mistakes.
fn unregistered_methods(loaded: &Loaded) -> impl Iterator<Item = Problem> {
    let rules = loaded.config.rules.iter().enumerate();
    rules.flat_map(|(rule, config)| {
        let methods = config
            .matches
            .iter()
            .flat_map(|matches| matches.methods.iter().enumerate());
        methods
            .filter(|(_, method)| !METHODS.contains(&method.as_str()))
            .map(move |(i, method)| {
                let message =
                    format!("\"{method}\" is not a registered HTTP method: requests are unlikely to use it");
                Problem::at(format!("rules[{rule}].match.methods[{i}]"), message)
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;
    use crate::secrets::UnsetSecret;

    fn warnings_of(yaml: &str) -> Vec<String> {
        let loaded = load::load(yaml, UnsetSecret::Placeholder, &|_| None)
            .unwrap_or_else(|invalid| panic!("{invalid:?}"));
        warnings(&loaded)
            .iter()
            .map(|warning| warning.in_file("g"))
            .collect()
    }

    #[test]
    fn problems_in_the_order_of_rules_are_reported() {
        let set = format!("{{keys: [{{id: i, digest: \"sha256:{}\"}}]}}", "0".repeat(64));
        let keys = format!("api_keys: {{k: {set}, l: {set}}}\nrules:\n");
        for (rules, expected) in [
            (
                "- {name: all, open: true}\n- {name: a, open: true}\n- {name: b, open: true}\n",
                &[
                    "g: rules[1]: is never reached: rules[0] (\"all\") takes every",
                    "g: rules[2]: is never reached: rules[0] (\"all\") takes every",
                ][..],
            ),
            (
                "- {name: reads, open: true, match: {methods: [GET]}}\n\
                 - {name: admin, match: {path: {prefix: /admin}}, authenticate: {any: [api_keys/k]}}\n",
                &[
                    "g: rules[0]: is open and takes requests that rules[1] (\"admin\") would guard, such as GET /admin;",
                ],
            ),
            (
                "- {name: a, authenticate: {any: [api_keys/k, api_keys/l]}}\n",
                &[
                    "g: rules[0].authenticate.any[1]: api_keys/l is never used: api_keys/k reads the same header",
                ],
            ),
            (
                "- {name: a, open: true, match: {methods: [GTE]}}\n",
                &["g: rules[0].match.methods[0]: \"GTE\" is not a registered HTTP method"],
            ),
        ] {
            let found = warnings_of(&format!("{keys}{rules}"));
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.starts_with(expected), "{found:?}");
            }
        }
    }
}
