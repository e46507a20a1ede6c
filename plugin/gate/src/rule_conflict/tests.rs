use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{Gate, config};

fn gate(rules: &[Value]) -> Gate {
    let rules: Vec<Value> = rules
        .iter()
        .enumerate()
        .map(|(i, rule)| {
            let mut rule = rule.clone();
            rule["name"] = json!(format!("r{i}"));
            rule
        })
        .collect();
    let document = json!({
        "api_keys": {"k": {"keys": [{"id": "i", "digest": format!("sha256:{}", "0".repeat(64))}]}},
        "rules": rules,
    });
    Gate::compile(&config::from_value(document).unwrap(), &|_: &str| None).unwrap()
}

fn open(matches: Value) -> Value {
    json!({"match": matches, "open": true})
}

fn guarded(matches: Value) -> Value {
    json!({"match": matches, "authenticate": {"any": ["api_keys/k"]}})
}

fn unreachable(rules: &[Value]) -> Vec<(usize, Vec<usize>)> {
    let found = gate(rules).rule_conflicts().into_iter();
    found
        .filter_map(|found| match found {
            RuleConflict::Unreachable { rule, by } => Some((rule, by)),
            RuleConflict::Shadowed { .. } => None,
        })
        .collect()
}

#[test]
fn rules_that_others_cover_together_are_unreachable() {
    let prefix = |prefix: &str| json!({"path": {"prefix": prefix}});
    for (name, rules, expected) in [
        ("a catch-all", vec![json!({}), prefix("/a")], vec![(1, vec![0])]),
        (
            "the same twice",
            vec![prefix("/a"), prefix("/a")],
            vec![(1, vec![0])],
        ),
        ("below", vec![prefix("/a"), prefix("/a/b")], vec![(1, vec![0])]),
        ("beside", vec![prefix("/a"), prefix("/ab")], vec![]),
        (
            "a prefix with a slash does not match the path itself",
            vec![prefix("/a/"), prefix("/a")],
            vec![],
        ),
        (
            "a path and everything below",
            vec![prefix("/a/"), json!({"path": {"exact": "/a"}}), prefix("/a")],
            vec![(2, vec![0, 1])],
        ),
        (
            "a template of literals",
            vec![
                json!({"path": {"template": "/a/{x}"}}),
                json!({"path": {"exact": "/a/b"}}),
            ],
            vec![(1, vec![0])],
        ),
        (
            "a template and a slash at the end",
            vec![
                json!({"path": {"template": "/a/{x}"}}),
                json!({"path": {"exact": "/a/"}}),
            ],
            vec![],
        ),
        (
            "a template below a prefix",
            vec![prefix("/a"), json!({"path": {"template": "/a/{x}/c"}})],
            vec![(1, vec![0])],
        ),
        (
            "a broader template",
            vec![
                json!({"path": {"template": "/{y}/{x}"}}),
                json!({"path": {"template": "/a/{x}"}}),
                json!({"path": {"template": "/{y}/a/"}}),
            ],
            vec![(1, vec![0])],
        ),
        (
            "each method by another rule",
            vec![
                json!({"methods": ["GET"], "path": {"prefix": "/a"}}),
                json!({"methods": ["POST"]}),
                json!({"methods": ["GET", "POST"], "path": {"exact": "/a"}}),
                json!({"path": {"exact": "/a"}}),
            ],
            vec![(2, vec![0, 1])],
        ),
        (
            "each host by another rule",
            vec![
                json!({"hosts": ["*.example.com"]}),
                json!({"hosts": ["example.com"]}),
                json!({"hosts": ["example.com", "*.a.example.com", "b.example.com"]}),
                json!({"hosts": ["b.example.com", "example.org"]}),
            ],
            vec![(2, vec![0, 1])],
        ),
        (
            "OPTIONS * is below no prefix",
            vec![prefix("/"), json!({}), json!({"path": {"exact": "*"}})],
            vec![(2, vec![1])],
        ),
    ] {
        let rules: Vec<Value> = rules.into_iter().map(guarded).collect();
        assert_eq!(unreachable(&rules), expected, "{name}");
    }
}

#[test]
fn an_open_rule_before_a_guarded_one_is_reported() {
    let get = |path: &str| json!({"methods": ["GET"], "path": {"prefix": path}});
    let prefix = |path: &str| json!({"path": {"prefix": path}});
    let template = |path: &str| json!({"path": {"template": path}});
    for (name, rules, example) in [
        (
            "reads of all",
            vec![open(get("/")), guarded(prefix("/admin"))],
            Some("GET /admin"),
        ),
        (
            "a template",
            vec![
                open(template("/users/{id}")),
                guarded(json!({"path": {"exact": "/users/me"}, "methods": ["PUT"]})),
            ],
            None,
        ),
        (
            "reads by a template",
            vec![
                open(json!({"methods": ["GET"], "path": {"template": "/users/{id}"}})),
                guarded(json!({"path": {"exact": "/users/me"}})),
            ],
            Some("GET /users/me"),
        ),
        (
            "templates that cross",
            vec![
                open(template("/{any}/status")),
                guarded(template("/admin/{page}")),
            ],
            Some("GET /admin/status"),
        ),
        (
            "a template across a prefix",
            vec![open(template("/{any}/status")), guarded(prefix("/admin"))],
            Some("GET /admin/status"),
        ),
        (
            "a host that is open",
            vec![
                open(json!({"hosts": ["*.example.com"]})),
                guarded(prefix("/admin")),
            ],
            Some("GET any.example.com/admin"),
        ),
        (
            "an exception",
            vec![open(json!({"path": {"exact": "/healthz"}})), guarded(prefix("/"))],
            None,
        ),
        (
            "an exception by method",
            vec![open(get("/")), guarded(json!({}))],
            None,
        ),
        (
            "an exception of one host",
            vec![open(json!({"hosts": ["a.example"]})), guarded(json!({}))],
            None,
        ),
        (
            "guarded before",
            vec![
                guarded(prefix("/admin")),
                open(get("/")),
                guarded(json!({"path": {"prefix": "/admin"}, "hosts": ["a.example"]})),
            ],
            None,
        ),
        (
            "other methods",
            vec![open(get("/")), guarded(json!({"methods": ["POST"]}))],
            None,
        ),
        (
            "other hosts",
            vec![
                open(json!({"hosts": ["a.b"]})),
                guarded(json!({"hosts": ["b", "*.a.b"]})),
            ],
            None,
        ),
    ] {
        let found = gate(&rules).rule_conflicts();
        let examples: Vec<_> = found
            .iter()
            .filter_map(|found| match found {
                RuleConflict::Shadowed { example, .. } => Some(example.as_str()),
                RuleConflict::Unreachable { .. } => None,
            })
            .collect();
        assert_eq!(
            examples,
            example.into_iter().collect::<Vec<_>>(),
            "{name}: {found:?}"
        );
    }
}

#[test]
fn an_open_rule_is_reported_once() {
    let found = gate(&[
        open(json!({"methods": ["GET"]})),
        guarded(json!({"path": {"prefix": "/a"}})),
        guarded(json!({"path": {"prefix": "/b"}})),
    ])
    .rule_conflicts();
    let shadowed = RuleConflict::Shadowed {
        open: 0,
        guarded: 1,
        example: "GET /a".to_owned(),
    };
    assert_eq!(found, [shadowed]);
}

/// Matches with so few names that they often overlap.
fn matches() -> impl Strategy<Value = Value> {
    let methods = proptest::sample::subsequence(vec!["GET", "PUT"], 0..=2);
    let hosts = proptest::sample::subsequence(vec!["t", "x.t", "*.t", "*.x.t"], 0..=2);
    let segment = proptest::sample::select(vec!["a", "b", "{p}"]);
    let path = (
        proptest::collection::vec(segment, 0..3),
        any::<bool>(),
        proptest::sample::select(vec!["exact", "prefix", "template", "any", "star"]),
    );
    (methods, hosts, path).prop_map(|(methods, hosts, (segments, slash, kind))| {
        let mut text: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        if slash || text.is_empty() {
            text.push('/');
        }
        let mut matches = json!({});
        for (field, list) in [("methods", methods), ("hosts", hosts)] {
            if !list.is_empty() {
                matches[field] = json!(list);
            }
        }
        match kind {
            "any" => {}
            "star" => matches["path"] = json!({"exact": "*"}),
            "template" => matches["path"] = json!({"template": text}),
            kind => matches["path"] = json!({kind: text.replace("{p}", "c")}),
        }
        matches
    })
}

/// Requests with each name that [`matches`] uses, and with one that it does not.
fn requests() -> Vec<(&'static str, &'static str, String)> {
    let names = ["a", "b", "c", "new"];
    let mut paths = vec!["*".to_owned(), "/".to_owned()];
    let mut level = vec![String::new()];
    for _ in 0..3 {
        level = level
            .iter()
            .flat_map(|stem| names.map(|name| format!("{stem}/{name}")))
            .collect();
        paths.extend(level.iter().flat_map(|path| [path.clone(), format!("{path}/")]));
    }
    let mut requests = Vec::new();
    for method in ["GET", "PUT", "NEW"] {
        for host in ["t", "x.t", "new.t", "new.x.t", "new"] {
            requests.extend(paths.iter().map(|path| (method, host, path.clone())));
        }
    }
    requests
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Compared with all requests of a set that is small enough to try each.
    #[test]
    fn exactly_the_rules_that_no_request_reaches_are_unreachable(rules in proptest::collection::vec(matches(), 1..6)) {
        let gate = gate(&rules.into_iter().map(guarded).collect::<Vec<_>>());
        let rules = gate.rules();
        let mut reached = vec![false; rules.len()];
        for (method, host, path) in requests() {
            let first = rules.iter().position(|rule| rule.matcher.matches(method.as_bytes(), host, &path));
            if let Some(first) = first {
                reached[first] = true;
            }
        }
        let expected: Vec<usize> = (0..rules.len()).filter(|rule| !reached[*rule]).collect();
        let found: Vec<usize> = gate
            .rule_conflicts()
            .iter()
            .filter_map(|found| match found {
                RuleConflict::Unreachable { rule, .. } => Some(*rule),
                RuleConflict::Shadowed { .. } => None,
            })
            .collect();
        prop_assert_eq!(found, expected);
    }
}
