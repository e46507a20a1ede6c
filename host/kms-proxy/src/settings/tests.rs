use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use postern_config::ConfigErrors;
use postern_serve::log::{LogFormat, LogLevel};
use secrecy::ExposeSecret as _;

use super::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const PIN: &str = "pin-4711";

fn variable(name: &str) -> Option<String> {
    match name {
        "TOKEN" | "SAME" | "KMS_PROXY_TOKEN" => Some(TOKEN.into()),
        "SHORT" => Some("short".into()),
        "PIN" | "KMS_PROXY_PIN" => Some(PIN.into()),
        _ => None,
    }
}

fn parse(text: &str, mode: Mode) -> Result<Settings, ConfigErrors> {
    Settings::parse(text, Path::new("/etc/postern"), mode, &variable)
}

fn issues(text: &str, mode: Mode) -> Vec<String> {
    let errors = parse(text, mode).expect_err("errors");
    errors.issues().iter().map(ToString::to_string).collect()
}

/// Valid settings, with one section replaced or added.
fn with(section: &str, content: &str) -> String {
    let mut text = String::new();
    for (name, usual) in [
        ("listen", "127.0.0.1:0"),
        ("callers", "{gate: {env: TOKEN}}"),
        ("token", "{module: m.so, label: t, pin: {env: PIN}}"),
        (
            "signers",
            "{a: {label: key-a}, b: {label: key-b, uses: [checkpoint]}}",
        ),
        ("current", "a"),
    ] {
        let content = if name == section { content } else { usual };
        if !content.is_empty() {
            text.push_str(&format!("{name}: {content}\n"));
        }
    }
    if !["listen", "callers", "token", "signers", "current"].contains(&section) {
        text.push_str(&format!("{section}: {content}\n"));
    }
    text
}

#[test]
fn the_example_is_read() {
    let text = include_str!("../../../../envoy/kms-proxy.yaml");
    let settings = parse(text, Mode::Production).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(settings.callers.len(), 2);
    assert!(settings.tls.is_some());
}

#[test]
fn settings_are_parsed_and_omitted_fields_have_defaults() {
    let settings = parse(&with("log", "{level: warn}"), Mode::Production).unwrap();
    assert_eq!(settings.listen.to_string(), "tcp://127.0.0.1:0");
    assert_eq!(
        settings.callers,
        [Caller {
            name: "gate".into(),
            digest: TokenDigest::of(TOKEN.as_bytes()),
            permission: Permission::Sign
        }]
    );
    let Keys::Token {
        token,
        signers,
        current,
        lenient,
    } = &settings.keys
    else {
        panic!("{:?}", settings.keys);
    };
    assert_eq!(token.module, Path::new("/etc/postern/m.so"));
    assert_eq!(token.name, TokenName::Label("t".into()));
    assert_eq!(token.pin.expose_secret(), PIN);
    assert_eq!(
        (token.sessions, token.queue, token.deadline),
        (4, 256, Duration::from_secs(5))
    );
    assert_eq!(
        signers,
        &[
            ("a", "key-a", None),
            ("b", "key-b", Uses::parse(["checkpoint"]).ok())
        ]
        .map(|(id, label, uses)| {
            let label = label.to_owned();
            (id.to_owned(), SignerKey { label, uses })
        })
        .into()
    );
    assert_eq!((current.as_str(), *lenient), ("a", false));
    assert_eq!(
        (settings.log.format, settings.log.level),
        (LogFormat::Json, LogLevel::Warn)
    );
    let shown = format!("{settings:?}");
    assert!(!shown.contains(PIN) && !shown.contains(TOKEN), "{shown}");
}

#[test]
fn a_port_requires_authenticated_callers_and_tls_beyond_loopback() {
    let tls = "tls: {certificate: c, key: k}\n";
    let mutual = "tls: {certificate: c, key: k, client_ca: ca}\n";
    let (callers, none) = ("{gate: {env: TOKEN}}", "");
    for (listen, callers, tls, expected) in [
        ("unix:kms.sock", none, "", None),
        ("unix:kms.sock", callers, "", None),
        ("127.0.0.1:1", callers, "", None),
        ("'[::1]:1'", callers, tls, None),
        ("0.0.0.0:1", callers, tls, None),
        ("0.0.0.0:1", none, mutual, None),
        ("0.0.0.0:1", callers, mutual, None),
        ("127.0.0.1:1", none, "", Some("listen: needs callers")),
        ("127.0.0.1:1", none, tls, Some("listen: needs callers")),
        ("0.0.0.0:1", callers, "", Some("listen: needs \"tls")),
        ("192.0.2.1:1", callers, "", Some("listen: needs \"tls")),
        (
            "unix:kms.sock",
            callers,
            tls,
            Some("tls: is only allowed with a TCP port"),
        ),
        (
            "localhost:1",
            callers,
            tls,
            Some("listen: \"localhost:1\" is not an address"),
        ),
    ] {
        let text = with("listen", listen).replace("callers: {gate: {env: TOKEN}}\n", "");
        let callers = if callers.is_empty() {
            String::new()
        } else {
            format!("callers: {callers}\n")
        };
        let text = text + &callers + tls;
        match expected {
            None => assert!(parse(&text, Mode::Production).is_ok(), "{text}"),
            Some(expected) => {
                let found = issues(&text, Mode::Production);
                assert!(
                    found.iter().any(|issue| issue.starts_with(expected)),
                    "{text}\n{found:#?}"
                );
            }
        }
    }
}

#[test]
fn each_error_is_reported_with_its_path() {
    for (section, content, expected) in [
        ("listen", "", "needs the field \"listen\""),
        ("liste", "1", "unknown field \"liste\": did you mean `listen`?"),
        ("callers", "{gate: {}}", "callers.gate: needs either `env`"),
        (
            "callers",
            "{gate: {env: TOKEN, digest: 'sha256:00'}}",
            "callers.gate.digest: not a digest",
        ),
        (
            "callers",
            "{gate: {env: UNSET}}",
            "callers.gate.env: UNSET is not set",
        ),
        (
            "callers",
            "{gate: {env: SHORT}}",
            "callers.gate.env: is shorter than 16 bytes",
        ),
        (
            "callers",
            "{gate: {env: 'hunter-2'}}",
            "callers.gate.env: is not the name",
        ),
        ("callers", "{'a b': {env: TOKEN}}", "callers.a b: must be named"),
        (
            "callers",
            "{a: {env: TOKEN}, b: {env: SAME}}",
            "callers.b: has the same token as a",
        ),
        (
            "callers",
            "{a: {env: TOKEN, may: write}}",
            "callers.a.may: unknown value \"write\"",
        ),
        ("token", "", "token: must name the token"),
        (
            "token",
            "{label: t, pin: {env: PIN}}",
            "token: needs the field \"module\"",
        ),
        (
            "token",
            "{module: m, pin: {env: PIN}}",
            "token: needs either `label`",
        ),
        (
            "token",
            "{module: m, label: t, serial: s, pin: {env: PIN}}",
            "token: needs either `label`",
        ),
        (
            "token",
            "{module: m, label: '', pin: {env: PIN}}",
            "token.label: must have 1 to 32 bytes",
        ),
        ("token", "{module: m, label: t}", "token: needs the field \"pin\""),
        (
            "token",
            "{module: m, label: t, pin: {}}",
            "token.pin: needs either `env`",
        ),
        (
            "token",
            "{module: m, label: t, pin: {env: UNSET}}",
            "token.pin.env: UNSET is not set",
        ),
        (
            "token",
            "{module: m, label: t, pin: {env: hunter-2}}",
            "token.pin.env: is not the name",
        ),
        (
            "token",
            "{module: m, label: t, pin: hunter-2}",
            "token.pin: expected",
        ),
        (
            "token",
            "{module: m, label: t, pin: {file: /no/such}}",
            "token.pin.file: /no/such",
        ),
        (
            "token",
            "{module: m, label: t, pin: {env: PIN}, sessions: 0}",
            "token.sessions: must be from 1",
        ),
        (
            "token",
            "{module: m, label: t, pin: {env: PIN}, queue: 99999}",
            "token.queue: must be from 0 to 65536",
        ),
        (
            "token",
            "{module: m, label: t, pin: {env: PIN}, deadline: 1ms}",
            "token.deadline: must be from 10ms",
        ),
        ("signers", "{}", "signers: must have at least one"),
        (
            "signers",
            "{a: {label: ''}}",
            "signers.a.label: must not be empty",
        ),
        (
            "signers",
            "{a: {label: a, uses: [payload, sign]}}",
            "signers.a.uses: names an unknown use",
        ),
        ("signers", "{a: {label: a, uses: []}}", "signers.a.uses: is empty"),
        (
            "signers",
            "{a: {label: a}, 'b c': {label: b}}",
            "signers.b c: must be named",
        ),
        (
            "signers",
            "{a: {lable: a}}",
            "signers.a: unknown field \"lable\": did you mean `label`?",
        ),
        // A template that left a value out must not widen what a key or a caller may do.
        (
            "signers",
            "{a: {label: a, uses: }}",
            "signers.a.uses: has no value",
        ),
        (
            "tls",
            "{certificate: a, key: b, client_ca: }",
            "tls.client_ca: has no value",
        ),
        (
            "callers",
            "{a: {digest: 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'}}",
            "callers.a.digest: is the digest of an empty value",
        ),
        ("current", "", "current: must name one"),
        ("current", "c", "current: there is no signer \"c\""),
        (
            "development",
            "{}",
            "development: is only allowed with --development",
        ),
        ("log", "{level: loud}", "log.level: unknown value \"loud\""),
    ] {
        let text = with(section, content);
        let found = issues(&text, Mode::Production);
        assert!(
            found.iter().any(|issue| issue.contains(expected)),
            "{text}\nno {expected:?} in {found:#?}"
        );
        assert!(!found.concat().contains("hunter-2"), "{found:?}");
    }
    let all = "listen: nowhere\ntoken: {module: m, pin: {}}\nsigners: {}\ncallers: {a: {}}";
    assert_eq!(issues(all, Mode::Production).len(), 6);
    assert!(issues("", Mode::Production)[0].contains("is empty"));
}

#[test]
fn a_software_key_is_for_development_only() {
    let text = "listen: unix:s\ndevelopment: {key: dev.pem}";
    assert!(
        issues(text, Mode::Production)
            .concat()
            .contains("only allowed with --development")
    );
    let settings = parse(text, Mode::Development).unwrap();
    assert!(
        matches!(&settings.keys, Keys::Software(Some(path)) if path == Path::new("/etc/postern/dev.pem"))
    );
    assert!(matches!(
        parse("listen: unix:s\ndevelopment: {}", Mode::Development)
            .unwrap()
            .keys,
        Keys::Software(None)
    ));
    // The flag alone is not enough: the settings must have `development` as well.
    assert!(issues("listen: unix:s", Mode::Development)[0].starts_with("token: must name the token"));
    let both = issues(&with("development", "{}"), Mode::Development);
    assert!(
        both[0].starts_with("development: is not allowed with `token`"),
        "{both:?}"
    );
    let named = issues(&format!("{text}\ncurrent: a"), Mode::Development);
    assert!(
        named[0].starts_with("current: is only allowed with `token`"),
        "{named:?}"
    );
    let token = parse(&with("log", "{}"), Mode::Development).unwrap();
    assert!(matches!(token.keys, Keys::Token { lenient: true, .. }));
}

#[test]
fn a_pin_file_must_not_be_accessible_to_all_users() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pin");
    std::fs::write(&file, format!("{PIN}\n")).unwrap();
    let text = with(
        "token",
        &format!("{{module: m, label: t, pin: {{file: {}}}}}", file.display()),
    );
    for (mode, expected) in [
        (0o600, None),
        (0o640, None),
        (0o644, Some("is accessible to all users")),
    ] {
        std::fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        match expected {
            None => match parse(&text, Mode::Production).unwrap().keys {
                Keys::Token { token, .. } => assert_eq!(token.pin.expose_secret(), PIN),
                other => panic!("{other:?}"),
            },
            Some(expected) => assert!(issues(&text, Mode::Production)[0].contains(expected)),
        }
    }
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&file, "\n").unwrap();
    assert!(issues(&text, Mode::Production)[0].contains("is empty"));
    // Nothing would ever write to it, and the start would wait for that.
    std::fs::remove_file(&file).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(issues(&text, Mode::Production)[0].contains("is not a regular file"));
}

#[test]
fn generating_a_key_needs_only_the_token_settings() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kms-proxy.yaml");
    std::fs::write(
        &file,
        "listen: 0.0.0.0:1\ncallers: {gate: {env: UNSET}}\ntoken: {module: /m.so, serial: '1', pin: {env: PIN}}",
    )
    .unwrap();
    let token = Token::read(&file, &variable).unwrap();
    assert_eq!(token.name, TokenName::Serial("1".into()));
    std::fs::write(&file, "listen: 0.0.0.0:1").unwrap();
    let error = Token::read(&file, &variable).unwrap_err().to_string();
    assert!(error.starts_with("token: must name the token"), "{error}");
}
