use clap::Parser;
use postern_policy::Request;

use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    request: RequestArgs,
}

fn request(args: &[&str]) -> Result<Request> {
    let cli = Cli::try_parse_from([&["x"], args].concat())?;
    let cases = cli.request.case()?;
    Ok(cases.cases[0].request.to_request())
}

#[test]
fn flags_make_a_request() {
    let request = request(&[
        "--path",
        "https://a.example:8443/x?y=1",
        "-H",
        "X-A: 1",
        "-H",
        "x-a: 2",
        "-d",
        "é",
        "--role",
        "Operator",
        "--tenant",
        "acme",
        "--claims",
        "{\"plan\": \"gold\"}",
        "--source",
        "192.0.2.7",
        "--time",
        "2026-03-01T00:00:00Z",
    ])
    .unwrap();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/x"));
    assert_eq!(request.query.as_deref(), Some("y=1"));
    assert_eq!(request.authority, "a.example:8443");
    let headers: Vec<_> = request
        .headers
        .iter()
        .map(|h| (h.name.as_str(), &h.value[..]))
        .collect();
    assert_eq!(headers, [("x-a", &b"1"[..]), ("x-a", b"2")]);
    assert_eq!(request.body.unwrap(), "é".as_bytes());
    assert_eq!(request.time, 1_772_323_200_000);
    let identity = request.identity.unwrap();
    assert_eq!((identity.subject.as_str(), identity.roles.len()), ("somebody", 1));
    assert_eq!(identity.claims, "{\"plan\":\"gold\"}");
}

#[test]
fn flags_override_the_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = "{method: PUT, path: /a, headers: {x-a: '1', x-b: '2'}, identity: {subject: bob, roles: [R]}}";
    std::fs::write(&file, text).unwrap();
    let name = file.path().to_str().unwrap();
    let request = request(&["--request", name, "-H", "x-a: 3", "--subject", "ann", "-d", "x"]).unwrap();
    assert_eq!((request.method.as_str(), request.path.as_str()), ("PUT", "/a"));
    let values: Vec<_> = request.headers.iter().map(|h| &h.value[..]).collect();
    assert_eq!(values, [b"3", b"2"]);
    let identity = request.identity.unwrap();
    assert_eq!((identity.subject.as_str(), identity.roles.len()), ("ann", 1));
}

#[test]
fn an_invalid_request_is_rejected() {
    for (text, says) in [
        ("{mehtod: GET}", "mehtod"),
        ("[1]", "as an object"),
        ("{headers: 7}", "`headers` is not an object"),
        ("{a: [", ":1:"),
    ] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        let error = request(&["--request", file.path().to_str().unwrap(), "-H", "a: b"]).unwrap_err();
        assert!(format!("{error:#}").contains(says), "{text}: {error:#}");
    }
    let error = request(&["--request", "-", "-d", "@-"]).unwrap_err();
    assert!(error.to_string().contains("not both"));
}

#[test]
fn the_typical_request_is_valid() {
    let request = typical().unwrap().cases[0].request.to_request();
    assert_eq!(request.headers.len(), 15);
    assert!(request.identity.is_some());
}

#[test]
fn a_configuration_is_json_or_a_file() {
    assert_eq!(config(None).unwrap(), json!({}));
    assert_eq!(config(Some("{\"a\": 1}")).unwrap(), json!({"a": 1}));
    assert!(
        config(Some("absent.yaml"))
            .unwrap_err()
            .to_string()
            .contains("absent.yaml")
    );
}
