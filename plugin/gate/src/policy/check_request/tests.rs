use std::net::SocketAddr;

use super::*;

const HEAD: [Header<'_>; 4] = [
    (b":method", b"POST"),
    (b":path", b"/a%20b?c=d"),
    (b":authority", b"api.example:8443"),
    (b":scheme", b"https"),
];

fn check_request(more: &[Header<'_>], details: &RequestDetails<'_>, sends_body: bool) -> HttpRequest {
    let headers: Vec<_> = HEAD.iter().chain(more).copied().collect();
    let request = Request {
        headers: &headers,
        source: Some("[2001:db8::1]:4711"),
        end_of_stream: false,
    };
    let input = CheckInput {
        module: "sentinel",
        rule: "sign",
        identity: Some("{\"subject\":\"s\"}"),
        withheld: &|(name, _)| *name == b"x-secret",
        time: Duration::new(1_767_225_600, 5),
        details,
        sends_body,
    };
    let message = CheckRequest::decode(encode(&request, &input).as_slice()).unwrap();
    let attributes = message.attributes.unwrap();
    let extensions: Vec<_> = attributes
        .context_extensions
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        extensions,
        [
            ("postern.identity", "{\"subject\":\"s\"}"),
            ("postern.module", "sentinel"),
            ("postern.rule", "sign"),
        ]
    );
    let address = attributes
        .source
        .unwrap()
        .address
        .unwrap()
        .socket_address
        .unwrap();
    let sent: SocketAddr = format!("[{}]:{}", address.address, address.port_value)
        .parse()
        .unwrap();
    assert_eq!(sent, "[2001:db8::1]:4711".parse().unwrap());
    let request = attributes.request.unwrap();
    let time = request.time.unwrap();
    assert_eq!((time.seconds, time.nanos), (1_767_225_600, 5));
    request.http.unwrap()
}

#[test]
fn a_plain_request_is_encoded_as_by_envoy() {
    let details = RequestDetails {
        protocol: Some("HTTP/2"),
        body: b"",
    };
    let http = check_request(&[(b"x-request-id", b"r-1"), (b"x-a", b"1")], &details, false);
    assert_eq!(
        (http.id.as_str(), http.method.as_str(), http.path.as_str()),
        ("r-1", "POST", "/a%20b?c=d")
    );
    assert_eq!(
        (
            http.host.as_str(),
            http.scheme.as_str(),
            http.protocol.as_str(),
            http.size
        ),
        ("api.example:8443", "https", "HTTP/2", -1)
    );
    assert_eq!(http.headers.len(), 6);
    assert_eq!(http.headers.get(":method").map(String::as_str), Some("POST"));
    assert_eq!(http.headers.get("x-a").map(String::as_str), Some("1"));
    assert_eq!(http.header_map, None);
    assert!(http.body.is_empty() && http.raw_body.is_empty());
}

#[test]
fn headers_that_a_map_would_lose_are_listed_too() {
    for more in [
        &[(&b"x-a"[..], &b"1"[..]), (b"x-b", b"2"), (b"x-a", b"3")][..],
        &[(b"x-a", b"1,3"), (b"x-b", b"\xff2")],
    ] {
        let http = check_request(more, &RequestDetails::default(), false);
        assert_eq!(http.headers.get("x-a").map(String::as_str), Some("1,3"));
        let list = http.header_map.unwrap().headers;
        let list: Vec<_> = list
            .iter()
            .map(|value| (value.key.as_bytes(), value.raw_value.as_slice()))
            .collect();
        let sent: Vec<_> = HEAD.iter().chain(more).copied().collect();
        assert_eq!(list, sent);
    }
    let http = check_request(
        &[(b"x-b", b"\xc3\xa9\xff\xfe!")],
        &RequestDetails::default(),
        false,
    );
    assert_eq!(http.headers.get("x-b").map(String::as_str), Some("é!!!"));
}

#[test]
fn withheld_headers_are_not_sent() {
    let more: [Header<'_>; 3] = [(b"x-secret", b"1"), (b"x-a", b"1"), (b"x-a", b"2")];
    let http = check_request(&more, &RequestDetails::default(), false);
    assert!(!http.headers.contains_key("x-secret"));
    let list = http.header_map.unwrap().headers;
    assert!(list.iter().all(|value| value.key != "x-secret"));
}

#[test]
fn the_body_is_sent_unchanged_or_not_at_all() {
    let details = RequestDetails {
        protocol: None,
        body: b"\xff\0",
    };
    let http = check_request(&[], &details, true);
    assert_eq!((http.raw_body.as_slice(), http.size), (&b"\xff\0"[..], 2));
    let http = check_request(&[(b"content-length", b"7")], &RequestDetails::default(), false);
    assert_eq!((http.raw_body.len(), http.size), (0, 7));
}
