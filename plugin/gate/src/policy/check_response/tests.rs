use super::super::grant::Part;
use super::super::messages::{BoolValue, Empty, HeaderValue, HttpStatus, ListValue, Status};
use super::*;

fn header(key: &str, value: &str, append: Option<bool>, action: i32) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue {
            key: key.into(),
            value: value.into(),
            raw_value: Vec::new(),
        }),
        append: append.map(|value| BoolValue { value }),
        append_action: action,
    }
}

fn parse(code: Option<i32>, response: Option<HttpResponse>) -> PolicyResponse {
    let message = CheckResponse {
        status: code.map(|code| Status {
            code,
            message: "for operators".into(),
        }),
        http_response: response,
        dynamic_metadata: None,
    };
    PolicyResponse::from_message(&message.encode_to_vec())
}

fn kind(response: &PolicyResponse) -> &'static str {
    match response {
        PolicyResponse::Allow(_) => "allow",
        PolicyResponse::Deny(Some(_)) => "deny",
        PolicyResponse::Deny(None) => "deny, bare",
        PolicyResponse::Failed(_) => "failed",
        PolicyResponse::Unavailable(_) => "unavailable",
    }
}

#[test]
fn only_unambiguous_responses_allow() {
    let ok = || Some(HttpResponse::Ok(OkHttpResponse::default()));
    let denied = || Some(HttpResponse::Denied(DeniedHttpResponse::default()));
    let error = || Some(HttpResponse::Error(DeniedHttpResponse::default()));
    for (code, response, wanted) in [
        (Some(0), None, "allow"),
        (Some(0), ok(), "allow"),
        (None, ok(), "allow"),
        (None, None, "failed"),
        (Some(0), denied(), "failed"),
        (None, denied(), "failed"),
        (Some(7), ok(), "failed"),
        (Some(7), None, "deny, bare"),
        (Some(16), None, "deny, bare"),
        (Some(-1), denied(), "deny"),
        (Some(7), denied(), "deny"),
        (Some(0), error(), "failed"),
        (Some(13), error(), "failed"),
        (None, error(), "failed"),
        (Some(14), error(), "unavailable"),
        (Some(4), error(), "unavailable"),
    ] {
        assert_eq!(
            kind(&parse(code, response.clone())),
            wanted,
            "{code:?} {response:?}"
        );
    }
    for garbage in [&b""[..], b"\x0a", b"\xff\xff", b"<html>"] {
        assert_eq!(
            kind(&PolicyResponse::from_message(garbage)),
            "failed",
            "{garbage:?}"
        );
    }
    assert_eq!(
        kind(&PolicyResponse::from_message(&vec![
            0;
            PolicyHost::MAX_RESPONSE + 1
        ])),
        "failed"
    );
    for (code, wanted) in [
        (14, "unavailable"),
        (4, "unavailable"),
        (1, "failed"),
        (12, "failed"),
        (u32::MAX, "failed"),
    ] {
        assert_eq!(kind(&PolicyResponse::from_grpc_status(code)), wanted, "{code}");
    }
}

#[test]
fn headers_are_appended_or_set_as_the_protocol_defines() {
    let options = || {
        vec![
            header("X-Unsaid", "1", None, 0),
            header("x-append", "2", Some(true), 2),
            header("x-set", "3", Some(false), 0),
            header("x-absent", "4", None, 1),
            header("x-over", "5", None, 2),
            header("x-exists", "6", None, 3),
        ]
    };
    let ok = OkHttpResponse {
        headers: options(),
        headers_to_remove: vec!["X-Gone".into()],
        response_headers_to_add: options(),
        ..OkHttpResponse::default()
    };
    let PolicyResponse::Allow(allowance) = parse(Some(0), Some(HttpResponse::Ok(ok))) else {
        panic!()
    };
    let actions = |changes: &[Change]| changes.iter().map(|change| change.action).collect::<Vec<_>>();
    let common = [
        AppendAction::Append,
        AppendAction::Overwrite,
        AppendAction::AddIfAbsent,
        AppendAction::Overwrite,
        AppendAction::OverwriteIfExists,
    ];
    assert_eq!(actions(&allowance.request)[0], AppendAction::Overwrite);
    assert_eq!(actions(&allowance.request)[1..], common);
    assert_eq!(actions(&allowance.response)[0], AppendAction::Append);
    assert_eq!(actions(&allowance.response)[1..], common);
    assert_eq!(allowance.request[0].name, "x-unsaid");
    assert_eq!(allowance.remove, ["x-gone"]);
    for broken in [header("x-a", "1", None, 4), HeaderValueOption::default()] {
        let ok = OkHttpResponse {
            headers: vec![broken],
            ..OkHttpResponse::default()
        };
        assert_eq!(kind(&parse(Some(0), Some(HttpResponse::Ok(ok)))), "failed");
    }
}

#[test]
fn a_policy_cannot_change_the_query() {
    for ok in [
        OkHttpResponse {
            query_parameters_to_set: vec![Empty {}],
            ..OkHttpResponse::default()
        },
        OkHttpResponse {
            query_parameters_to_remove: vec!["a".into()],
            ..OkHttpResponse::default()
        },
    ] {
        assert_eq!(kind(&parse(Some(0), Some(HttpResponse::Ok(ok)))), "failed");
    }
}

#[test]
fn a_denial_is_passed_on_unchanged() {
    let deny = |code: Option<i32>, headers| {
        let denied = DeniedHttpResponse {
            status: code.map(|code| HttpStatus { code }),
            headers,
            body: "no".into(),
        };
        parse(Some(7), Some(HttpResponse::Denied(denied)))
    };
    for (code, status) in [
        (None, 403),
        (Some(0), 403),
        (Some(451), 451),
        (Some(302), 302),
        (Some(599), 599),
    ] {
        let PolicyResponse::Deny(Some(reply)) = deny(code, Vec::new()) else {
            panic!("{code:?}")
        };
        assert_eq!((reply.status, reply.body.as_str()), (status, "no"));
    }
    for code in [100, 199, 600, -1, 70_000] {
        assert_eq!(kind(&deny(Some(code), Vec::new())), "failed", "{code}");
    }
    let headers = vec![
        header("a", "1", None, 0),
        header("A", "2", None, 0),
        header("a", "3", Some(true), 0),
        header("a", "4", None, 1),
        header("b", "5", None, 3),
    ];
    let PolicyResponse::Deny(Some(reply)) = deny(None, headers) else {
        panic!()
    };
    let headers: Vec<_> = reply
        .headers
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_slice()))
        .collect();
    assert_eq!(headers, [("a", &b"2"[..]), ("a", b"3")]);
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn within(name: &str, inner: Value) -> Value {
    value(Kind::Struct(Struct {
        fields: [(name.to_owned(), inner)].into(),
    }))
}

#[test]
fn a_grant_is_read_from_the_metadata() {
    let parts = |parts: &[&str]| {
        let values = parts
            .iter()
            .map(|part| value(Kind::Text((*part).into())))
            .collect();
        value(Kind::List(ListValue { values }))
    };
    let cache = |ttl: Value, parts: Value| {
        let fields = [("ttl_ms".to_owned(), ttl), ("parts".to_owned(), parts)];
        within(
            "postern",
            within(
                "cache",
                value(Kind::Struct(Struct {
                    fields: fields.into(),
                })),
            ),
        )
    };
    let granted = |metadata: Value| {
        let Some(Kind::Struct(metadata)) = metadata.kind else {
            panic!()
        };
        let message = CheckResponse {
            status: Some(Status::default()),
            http_response: None,
            dynamic_metadata: Some(metadata),
        };
        let PolicyResponse::Allow(allowance) = PolicyResponse::from_message(&message.encode_to_vec()) else {
            panic!()
        };
        allowance.grant.map(|grant| (grant.ttl.as_millis(), grant.parts))
    };
    let number = |n| value(Kind::Number(n));
    let good = cache(number(1500.0), parts(&["path", "method"]));
    assert_eq!(granted(good), Some((1500, vec![Part::Method, Part::Path])));
    for none in [
        cache(number(1500.0), parts(&["mood"])),
        cache(number(0.0), parts(&["path"])),
        cache(value(Kind::Text("1500".into())), parts(&["path"])),
        cache(number(1500.0), number(1.0)),
        within("postern", within("obligations", parts(&[]))),
        within("other", parts(&[])),
    ] {
        assert_eq!(granted(none), None);
    }
}
