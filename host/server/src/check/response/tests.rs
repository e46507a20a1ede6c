use serde_json::{Value as Json, json};

use super::*;

fn header(name: &str, value: &[u8]) -> Header {
    Header {
        name: name.into(),
        value: value.into(),
    }
}

fn refusal(status: u16, headers: Vec<Header>) -> DenialResponse {
    let content = DenialContent::Problem {
        code: "quorum_missing".into(),
        message: "Two must sign.".into(),
    };
    DenialResponse {
        status,
        headers,
        content,
    }
}

fn code(response: &CheckResponse) -> i32 {
    response.status.as_ref().unwrap().code
}

fn denial(response: CheckResponse) -> DeniedHttpResponse {
    match response.http_response {
        Some(HttpResponse::DeniedResponse(denied) | HttpResponse::ErrorResponse(denied)) => denied,
        other => panic!("{other:?}"),
    }
}

fn shown(options: &[HeaderValueOption]) -> Vec<(&str, &str, &[u8], HeaderAppendAction)> {
    let mut shown = Vec::new();
    for option in options {
        let header = option.header.as_ref().unwrap();
        shown.push((
            header.key.as_str(),
            header.value.as_str(),
            header.raw_value.as_slice(),
            option.append_action(),
        ));
    }
    shown
}

/// A Struct as JSON.
fn document(value: &Value) -> Json {
    match value.kind.as_ref().unwrap() {
        Kind::StructValue(inner) => inner
            .fields
            .iter()
            .map(|(name, value)| (name.clone(), document(value)))
            .collect(),
        Kind::ListValue(list) => list.values.iter().map(document).collect(),
        Kind::StringValue(text) => json!(text),
        Kind::NumberValue(number) => json!(number),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_allowance_with_all_that_it_can_hold() {
    let response = allow(Allowance {
        headers: vec![header("x-a", b"1"), header("x-b", b"\xff"), header("x-a", b"2")],
        obligations: [("audit", "yes"), ("notify", "ann"), ("notify", "bob")]
            .map(|(name, value)| Obligation {
                name: name.into(),
                value: value.into(),
            })
            .into(),
        cache: Some(CacheGrant {
            ttl_ms: 5000,
            parts: vec![Part::Method, Part::SourceAddress, Part::Header("x-a".into())],
        }),
    });
    assert_eq!(code(&response), 0);
    let postern = &response.dynamic_metadata.as_ref().unwrap().fields["postern"];
    let expected = json!({
        "cache": {"ttl_ms": 5000.0, "parts": ["method", "source-address", "header:x-a"]},
        "obligations": {"audit": "yes", "notify": ["ann", "bob"]},
    });
    assert_eq!(document(postern), expected);
    let Some(HttpResponse::OkResponse(ok)) = response.http_response else {
        panic!("allowed")
    };
    use HeaderAppendAction::{AppendIfExistsOrAdd as Append, OverwriteIfExistsOrAdd as Overwrite};
    let expected: [(_, _, &[u8], _); 3] = [
        ("x-a", "1", b"", Overwrite),
        ("x-b", "", b"\xff", Overwrite),
        ("x-a", "2", b"", Append),
    ];
    assert_eq!(shown(&ok.headers), expected);
}

#[test]
fn an_allowance_with_nothing_says_nothing() {
    let response = allow(Allowance {
        headers: vec![],
        obligations: vec![],
        cache: None,
    });
    assert_eq!((code(&response), response.dynamic_metadata), (0, None));
    assert!(
        matches!(response.http_response, Some(HttpResponse::OkResponse(ok)) if ok == OkHttpResponse::default())
    );
}

#[test]
fn a_refusal_in_our_words() {
    for (status, grpc, title) in [
        (403, 7, "Forbidden"),
        (401, 16, "Unauthorized"),
        (599, 7, "Refused"),
    ] {
        let headers = vec![header("content-type", b"text/html"), header("retry-after", b"9")];
        let response = deny(refusal(status, headers), "r-1");
        assert_eq!(code(&response), grpc);
        let denied = denial(response);
        assert_eq!(denied.status.unwrap().code, i32::from(status));
        let named: Vec<_> = shown(&denied.headers)
            .iter()
            .map(|(name, value, ..)| (*name, *value))
            .collect();
        assert_eq!(
            named,
            [("retry-after", "9"), ("content-type", "application/problem+json")]
        );
        let body: Json = serde_json::from_str(&denied.body).unwrap();
        let expected = json!({"type": "about:blank", "title": title, "status": status, "code": "quorum_missing",
            "detail": "Two must sign.", "request_id": "r-1"});
        assert_eq!(body, expected);
    }
}

#[test]
fn a_refusal_as_it_stands() {
    let with = |body: &'static [u8]| {
        let headers = vec![
            header("content-type", b"text/html"),
            header("location", b"/login"),
        ];
        let content = DenialContent::Body(body.into());
        denial(deny(
            DenialResponse {
                status: 302,
                headers,
                content,
            },
            "r-1",
        ))
    };
    let denied = with(b"<p>no</p>");
    assert_eq!((denied.body.as_str(), denied.headers.len()), ("<p>no</p>", 2));
    let denied = with(b"\xff");
    assert_eq!(
        (denied.body.as_str(), denied.headers.len()),
        ("", 1),
        "no text: refused without it"
    );
}

#[test]
fn failures_tell_nothing_of_themselves() {
    for (overloaded, grpc) in [(false, 13), (true, 14)] {
        let response = failure(overloaded, "");
        assert_eq!(code(&response), grpc);
        assert!(response.status.as_ref().unwrap().message.is_empty());
        assert!(matches!(
            response.http_response,
            Some(HttpResponse::ErrorResponse(_))
        ));
        let body: Json = serde_json::from_str(&denial(response).body).unwrap();
        let expected = json!({"type": "about:blank", "title": "Service Unavailable", "status": 503, "code": "policy_failed"});
        assert_eq!(body, expected);
    }
    let response = path_ambiguous("r-1");
    assert_eq!(code(&response), 7);
    let denied = denial(response);
    assert_eq!(denied.status.unwrap().code, 400);
    assert!(denied.body.contains("path_ambiguous"));
}
