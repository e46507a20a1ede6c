//! What the order of the rules makes of them: rules that no request reaches, and open rules in front of guarded ones.

use postern_gate::Obstruction;

use crate::document::Problem;
use crate::load::Loaded;

/// Methods that are registered with IANA, and so are likely to be meant.
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
    let obstructions = loaded.gate.obstructions().into_iter();
    let obstructions = obstructions.map(|found| match found {
        Obstruction::Unreachable { rule, by } => {
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
        Obstruction::Shadowed {
            open,
            guarded,
            example,
        } => {
            let message = format!(
                "is open and takes requests that {} would guard, such as {example}; move it behind that rule, or narrow \
                 its match",
                named(guarded)
            );
            Problem::at(format!("rules[{open}]"), message)
        }
    });
    obstructions.chain(methods(loaded)).collect()
}

/// Methods that nobody sends, most likely.
fn methods(loaded: &Loaded) -> impl Iterator<Item = Problem> {
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
                    format!("\"{method}\" is no registered method: a request with it is unlikely to come");
                Problem::at(format!("rules[{rule}].match.methods[{i}]"), message)
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;
    use crate::secrets::Unset;

    fn told(yaml: &str) -> Vec<String> {
        let loaded =
            load::load(yaml, Unset::StandIn, &|_| None).unwrap_or_else(|invalid| panic!("{invalid:?}"));
        warnings(&loaded)
            .iter()
            .map(|warning| warning.in_file("g"))
            .collect()
    }

    #[test]
    fn the_order_of_rules_is_looked_at() {
        let keys = format!(
            "api_keys: {{k: {{keys: [{{id: i, digest: \"sha256:{}\"}}]}}}}\nrules:\n",
            "0".repeat(64)
        );
        for (rules, said) in [
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
                "- {name: a, open: true, match: {methods: [GTE]}}\n",
                &["g: rules[0].match.methods[0]: \"GTE\" is no registered method"],
            ),
        ] {
            let found = told(&format!("{keys}{rules}"));
            assert_eq!(found.len(), said.len(), "{found:?}");
            for (found, said) in found.iter().zip(said) {
                assert!(found.starts_with(said), "{found:?}");
            }
        }
    }
}
