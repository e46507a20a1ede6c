use proptest::prelude::*;

use super::*;
use crate::request::Header;

fn parts(texts: &[&str]) -> Option<Vec<Part>> {
    Grant::new(1000.0, texts.iter().copied()).map(|grant| grant.parts)
}

#[test]
fn a_list_is_sorted_and_parsed_back() {
    let all = [
        "path",
        "method",
        "header:X-B",
        "identity",
        "query",
        "scheme",
        "authority",
        "source-address",
        "header:x-a",
        "method",
    ];
    let list = parts(&all).unwrap();
    assert_eq!(list.len(), 9);
    assert_eq!(Part::list(Part::join(&list).as_bytes()), Some(list));
    assert_eq!(Part::list(Part::join(&[]).as_bytes()), Some(Vec::new()));
    for other in [&b""[..], b"method\n", b"parts\nmood\n", b"parts\n\xff\n"] {
        assert_eq!(Part::list(other), None, "{other:?}");
    }
}

#[test]
fn unsupported_grants_are_rejected() {
    for part in ["mood", "", "header:", "header:a b", "Method"] {
        assert_eq!(parts(&["method", part]), None, "{part:?}");
    }
    assert_eq!(parts(&["method"; 33]), None);
    for ttl in [0.0, 0.9, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(Grant::new(ttl, std::iter::empty()), None, "{ttl}");
    }
    for (granted, expected) in [(1.0, 1), (59_999.9, 59_999), (60_000.0, 60_000), (1e300, 60_000)] {
        let grant = Grant::new(granted, std::iter::empty()).unwrap();
        assert_eq!(grant.ttl, Duration::from_millis(expected), "{granted}");
    }
}

/// The inputs of a key, with few values each, so that requests are often equal in a part.
#[derive(Debug, Clone)]
struct KeyInput {
    method: &'static str,
    authority: Option<&'static str>,
    target: &'static str,
    source: Option<&'static str>,
    identity: Option<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
}

fn key_input() -> impl Strategy<Value = KeyInput> {
    let header = (
        prop::sample::select(vec!["x-a", "x-b"]),
        prop::sample::select(vec!["", "1", "11", "1,1"]),
    );
    (
        prop::sample::select(vec!["GET", "POST"]),
        prop::sample::select(vec![None, Some(""), Some("a"), Some("b")]),
        prop::sample::select(vec!["/", "/?", "/?a", "/a", "/a?", "/?a?"]),
        prop::sample::select(vec![
            None,
            Some("192.0.2.1:1"),
            Some("192.0.2.1:2"),
            Some("[::1]:1"),
        ]),
        prop::sample::select(vec![None, Some(""), Some("{\"a\":1}"), Some("{\"a\":2}")]),
        prop::collection::vec(header, 0..4),
    )
        .prop_map(
            |(method, authority, target, source, identity, headers)| KeyInput {
                method,
                authority,
                target,
                source,
                identity,
                headers,
            },
        )
}

impl KeyInput {
    fn key(&self, parts: &[Part]) -> Digest {
        let mut headers: Vec<Header<'_>> = vec![
            (b":method", self.method.as_bytes()),
            (b":path", self.target.as_bytes()),
        ];
        headers.extend(self.authority.map(|a| (&b":authority"[..], a.as_bytes())));
        headers.extend(self.headers.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())));
        let request = Request {
            headers: &headers,
            source: self.source,
            end_of_stream: true,
        };
        key(&[7; 16], "module", "rule", parts, &request, self.identity)
    }

    /// The part as text, computed independently of the key.
    fn part(&self, part: &Part) -> String {
        let (path, query) = match self.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (self.target, None),
        };
        match part {
            Part::Method => self.method.to_owned(),
            Part::Scheme => String::new(),
            Part::Authority => format!("{:?}", self.authority),
            Part::Path => path.to_owned(),
            Part::Query => format!("{query:?}"),
            Part::SourceAddress => format!("{:?}", self.source.and_then(|s| s.rsplit_once(':')).map(|s| s.0)),
            Part::Identity => format!("{:?}", self.identity),
            Part::Header(name) => {
                let values = self.headers.iter().filter(|(n, _)| n == name);
                format!("{:?}", values.map(|(_, value)| value).collect::<Vec<_>>())
            }
        }
    }
}

fn list() -> impl Strategy<Value = Vec<Part>> {
    let all = parts(&[
        "method",
        "scheme",
        "authority",
        "path",
        "query",
        "source-address",
        "identity",
        "header:x-a",
        "header:x-b",
    ]);
    prop::sample::subsequence(all.unwrap(), 0..=9)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn requests_share_a_key_exactly_if_they_are_equal_in_all_parts(a in key_input(), b in key_input(), parts in list()) {
        let equal = parts.iter().all(|part| a.part(part) == b.part(part));
        prop_assert_eq!(a.key(&parts) == b.key(&parts), equal);
    }

    #[test]
    fn different_lists_have_different_keys(a in key_input(), first in list(), second in list()) {
        prop_assert_eq!(a.key(&first) == a.key(&second), first == second);
    }
}

#[test]
fn modules_rules_and_seeds_have_different_keys() {
    let request = Request {
        headers: &[],
        source: None,
        end_of_stream: true,
    };
    let mut keys: Vec<_> = [("ab", "c", 0), ("a", "bc", 0), ("abc", "", 0), ("ab", "c", 1)]
        .into_iter()
        .map(|(module, rule, seed)| key(&[seed; 16], module, rule, &[], &request, None))
        .collect();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), 4);
}
