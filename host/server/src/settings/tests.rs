use std::path::{Path, PathBuf};
use std::time::Duration;

use postern_config::ConfigErrors;
use postern_policy::{Capability, Digest, Source};
use postern_serve::log::{LogFormat, LogLevel};

use super::*;

const KEY: &str = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn variable(name: &str) -> Option<String> {
    match name {
        "TOKEN" => Some(TOKEN.into()),
        "SHORT" => Some("short".into()),
        "REDIS_URL" => Some("redis://:hunter2@127.0.0.1/".into()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Settings, ConfigErrors> {
    Settings::parse(text, Path::new("/etc/postern"), &variable)
}

fn issues(text: &str) -> Vec<String> {
    let errors = parse(text).expect_err("errors");
    errors.issues().iter().map(ToString::to_string).collect()
}

/// Settings with this in place of the entries.
fn with_entry(entry: &str) -> String {
    format!("listen: [127.0.0.1:0]\npolicies: {{entries: {{a: {entry}}}}}")
}

#[test]
fn the_example_is_read() {
    let text = include_str!("../../../../envoy/host.yaml");
    let settings = Settings::parse(text, Path::new("/etc/postern"), &|name| {
        let known = [
            "POSTERN_ADMIN_TOKEN",
            "POSTERN_GATE_TOKEN",
            "SIGNING_PROXY_API_KEY",
        ];
        known.contains(&name).then(|| TOKEN.into())
    })
    .unwrap_or_else(|errors| panic!("{errors}"));
    assert!(settings.policies.entries.len() > 1);
}

#[test]
fn settings_are_parsed_and_omitted_fields_have_defaults() {
    let text = format!(
        "
listen: ['unix:///run/postern/host.sock', 'unix:near.sock', 'tcp://127.0.0.1:9191', '[::1]:9191']
admin: {{listen: '127.0.0.1:9192', token: {{env: TOKEN}}}}
policies:
  manifest: manifest.json
  signers: {{ann: '{KEY}'}}
  default: plain
  cache: cache
  tamper: {{check: true, interval: 5s}}
  keyvalue: {{redis: {{env: REDIS_URL}}}}
  entries:
    plain: {{module: rbac}}
    full:
      file: full.wasm
      digest: '{}'
      cases: full.cases.yaml
      grants: [config, http]
      hosts: ['api.example.com', '127.0.0.1:8080']
      config: {{rules: []}}
      deadline: 20ms
      memory: 1MiB
      concurrency: 8
      queue: 0
",
        Digest::of(b"x")
    );
    let settings = parse(&text).unwrap();
    let listen: Vec<_> = settings.listen.iter().map(ToString::to_string).collect();
    let expected = [
        "unix:///run/postern/host.sock",
        "unix:///etc/postern/near.sock",
        "tcp://127.0.0.1:9191",
        "tcp://[::1]:9191",
    ];
    assert_eq!(listen, expected);
    assert_eq!(
        settings.admin.as_ref().unwrap().token,
        Some(postern_serve::TokenDigest::of(TOKEN.as_bytes()))
    );
    assert_eq!(settings.cache, Some(PathBuf::from("/etc/postern/cache")));
    assert_eq!((settings.concurrency, settings.memory()), (72, 16 << 20));
    assert_eq!(
        (settings.watch, settings.tamper_check),
        (true, Some(Duration::from_secs(5)))
    );
    assert!(!settings.policies.strict && settings.policies.signers.contains_key("ann"));
    assert_eq!(
        settings.log,
        LogSettings {
            format: LogFormat::Json,
            level: LogLevel::Info
        }
    );
    let full = &settings.policies.entries["full"];
    assert!(matches!(
        &full.source,
        Source::File {
            digest: Some(_),
            cases: Some(_),
            ..
        }
    ));
    assert_eq!(
        full.grants.capabilities,
        [Capability::Config, Capability::Http].into()
    );
    assert_eq!(
        (full.limits.deadline, full.limits.memory),
        (Duration::from_millis(20), 1 << 20)
    );
    assert_eq!((full.limits.concurrency, full.limits.queue), (8, 0));
    let shown = format!("{settings:?}");
    assert!(!shown.contains("hunter2") && !shown.contains(TOKEN), "{shown}");
}

#[test]
fn the_environment_decides_on_tampering() {
    let text = format!(
        "listen: [127.0.0.1:0]\npolicies: {{manifest: m.json, signers: {{ann: '{KEY}'}}, entries: {{a: {{module: a}}}}, \
         tamper: {{strict: true}}}}"
    );
    for (strict, check, expected) in [
        (None, None, (true, true)),
        (Some("false"), None, (false, false)),
        (Some("0"), Some("1"), (false, true)),
        (Some("1"), Some("false"), (true, true)),
        (Some(""), None, (true, true)),
    ] {
        let variable = |name: &str| match name {
            "TAMPER_STRICT" => strict.map(ToOwned::to_owned),
            "TAMPER_CHECK" => check.map(ToOwned::to_owned),
            _ => None,
        };
        let settings = Settings::parse(&text, Path::new("/"), &variable).unwrap();
        let found = (settings.policies.strict, settings.tamper_check.is_some());
        assert_eq!(found, expected, "{strict:?} {check:?}");
    }
    let errors = Settings::parse(&text, Path::new("/"), &|name| {
        (name == "TAMPER_STRICT").then(|| "yes".into())
    });
    assert!(
        errors
            .unwrap_err()
            .to_string()
            .contains("TAMPER_STRICT in the environment must be true or false")
    );
}

#[test]
fn each_error_is_reported_with_its_path() {
    for (text, expected) in [
        ("", "is empty"),
        ("listen: [", "line"),
        ("{}", "needs the field \"listen\""),
        (
            "listen: []\npolicies: {entries: {a: {file: a}}}",
            "listen: must name at least one",
        ),
        (
            "listen: [localhost:1]\npolicies: {entries: {a: {file: a}}}",
            "listen[0]: \"localhost:1\" is not an address",
        ),
        (
            "listen: ['unix://']\npolicies: {entries: {a: {file: a}}}",
            "listen[0]: \"unix://\" is not an address",
        ),
        (
            "listen: ['127.0.0.1:1', 'tcp://127.0.0.1:1']\npolicies: {entries: {a: {file: a}}}",
            "listen[1]: is a duplicate",
        ),
        (
            "listen: ['127.0.0.1:1']\npolicies: {entries: {}}",
            "policies.entries: must have at least one",
        ),
        (
            "listen: ['127.0.0.1:1']\npolicies: {entires: {}}",
            "policies: unknown field \"entires\": did you mean `entries`?",
        ),
        (&with_entry("{}"), "policies.entries.a: needs `module`"),
        (
            &with_entry("{file: a, module: a}"),
            "policies.entries.a: has both",
        ),
        (
            &with_entry("{module: a}"),
            "policies.entries.a.module: names a module of a manifest",
        ),
        (
            &with_entry("{module: a, cases: c}"),
            "policies.entries.a.cases: is only allowed with `file`",
        ),
        (
            &with_entry("{file: a, digest: abc}"),
            "policies.entries.a.digest: not a digest",
        ),
        (
            &with_entry("{file: a, grants: [confg]}"),
            "policies.entries.a.grants[0]: no capability \"confg\": did you mean `config`?",
        ),
        (
            &with_entry("{file: a, grants: [http]}"),
            "policies.entries.a.hosts: must name the HTTP hosts",
        ),
        (
            &with_entry("{file: a, hosts: [b]}"),
            "policies.entries.a.hosts: is only allowed with the grant",
        ),
        (
            &with_entry("{file: a, grants: [http], hosts: ['https://b']}"),
            "policies.entries.a.hosts[0]: must be an HTTP host",
        ),
        (
            &with_entry("{file: a, deadline: 1ms}"),
            "policies.entries.a.deadline: must be from 2ms",
        ),
        (
            &with_entry("{file: a, deadline: soon}"),
            "policies.entries.a.deadline: \"soon\" is not a duration",
        ),
        (
            &with_entry("{file: a, memory: 1KiB}"),
            "policies.entries.a.memory: must be from 64KiB",
        ),
        (
            &with_entry("{file: a, concurrency: 0}"),
            "policies.entries.a.concurrency: must be at least 1",
        ),
        (
            &with_entry("{file: a, concurrency: 513}"),
            "policies.concurrency: must be from 1 to 512, but is 513",
        ),
        (
            &with_entry("{file: a, queue: 9999999}"),
            "policies.entries.a.queue: must be at most 1048576",
        ),
        (
            &with_entry("{file: a, deadlin: 1s}"),
            "policies.entries.a: unknown field \"deadlin\"",
        ),
        (
            "listen: ['127.0.0.1:1']\npolicies: {entries: {a.b: {file: a}}}",
            "policies.entries.a.b: must be named",
        ),
        (
            "listen: ['127.0.0.1:1']\npolicies: {concurrency: 64, entries: {a: {file: a}, b: {file: b}}}",
            "policies.concurrency: is 64, but the entries may run 128",
        ),
        (
            "listen: ['127.0.0.1:1']\npolicies: {default: rback, entries: {rbac: {file: a}}}",
            "policies.default: there is no entry \"rback\": did you mean `rbac`?",
        ),
        (
            "listen: ['127.0.0.1:1']\npolicies: {manifest: m, entries: {a: {module: a}}}",
            "policies.signers: must name the signers",
        ),
        (
            "listen: ['127.0.0.1:1']\npolicies: {signers: {ann: 'ed25519:AAAA'}, entries: {a: {file: a}}}",
            "policies.signers.ann: is not a public key",
        ),
        (
            "listen: ['127.0.0.1:1']\npolicies: {tamper: {strict: true, interval: 1ms}, entries: {a: {file: a}}}",
            "policies.entries.a.file: is unsigned, and TAMPER_STRICT rejects it",
        ),
        (
            "listen: ['127.0.0.1:1']\npolicies: {tamper: {interval: 1ms}, entries: {a: {file: a}}}",
            "policies.tamper.interval: must be at least 1s",
        ),
        (
            "listen: ['127.0.0.1:1']\npolicies: {keyvalue: {redis: {env: NOPE}}, entries: {a: {file: a}}}",
            "policies.keyvalue.redis.env: NOPE is not set",
        ),
        // A template that left a value out must not remove a protection.
        (
            "listen: ['127.0.0.1:1']\npolicies: {entries: {a: {file: a, digest: }}}",
            "policies.entries.a.digest: has no value",
        ),
        (
            "listen: ['127.0.0.1:1']\ngate: {token: }\npolicies: {entries: {a: {file: a}}}",
            "gate.token: has no value",
        ),
        (
            "listen: ['127.0.0.1:1']\npolicies: {entries: {config: {file: a, cases: }}}",
            "policies.entries.config.cases: has no value",
        ),
        (
            "listen: ['127.0.0.1:1']\nlog: {level: loud}\npolicies: {entries: {a: {file: a}}}",
            "log.level: unknown value \"loud\"",
        ),
    ] {
        let found = issues(text);
        assert!(
            found.iter().any(|issue| issue.contains(expected)),
            "{text}\nno {expected:?} in {found:#?}"
        );
    }
}

#[test]
fn operators_are_reached_by_a_socket_or_with_a_token() {
    let entries = "policies: {entries: {a: {file: a}}}";
    for (admin, expected) in [
        ("{listen: 'unix:///run/a.sock'}", None),
        ("{listen: 'unix:///run/a.sock', token: {env: TOKEN}}", None),
        ("{listen: '127.0.0.1:1', token: {env: TOKEN}}", None),
        ("{listen: '[::1]:1', token: {env: TOKEN}}", None),
        ("{listen: '127.0.0.1:1'}", Some("admin.listen: needs \"token")),
        (
            "{listen: '0.0.0.0:1', token: {env: TOKEN}}",
            Some("admin.listen: must be a Unix socket or a loopback"),
        ),
        (
            "{listen: '127.0.0.1:1', token: {env: UNSET}}",
            Some("admin.token.env: UNSET is not set"),
        ),
        (
            "{listen: '127.0.0.1:1', token: {env: SHORT}}",
            Some("admin.token.env: is shorter"),
        ),
        (
            "{listen: '127.0.0.1:1', token: {env: 'hunter-2'}}",
            Some("admin.token.env: is not the name"),
        ),
        (
            "{listen: '127.0.0.1:1', token: hunter-2}",
            Some("admin.token: expected"),
        ),
    ] {
        let text = format!("listen: ['127.0.0.1:2']\nadmin: {admin}\n{entries}");
        match expected {
            None => assert!(parse(&text).is_ok(), "{admin}"),
            Some(expected) => {
                let found = issues(&text);
                assert!(
                    found.iter().any(|issue| issue.starts_with(expected)),
                    "{admin}: {found:?}"
                );
                assert!(!found.concat().contains("hunter-2"), "{found:?}");
            }
        }
    }
}

#[test]
fn all_errors_are_reported_at_once_without_secrets() {
    let text = "
listen: [nowhere]
policies:
  keyvalue: redis://:hunter2@db/
  entries: {a: {}, b: {file: b, grants: [fly]}, c: {file: c, deadline: 0s}}
";
    let shape = issues(text);
    assert_eq!(shape.len(), 1, "{shape:?}");
    assert!(
        shape[0].starts_with("policies.keyvalue: write memory") && !shape[0].contains("hunter2"),
        "{shape:?}"
    );
    let sense = issues(&text.replace("redis://:hunter2@db/", "memory"));
    assert_eq!(sense.len(), 4, "{sense:?}");
}

#[test]
fn redis_on_another_machine_needs_tls() {
    let with = |url: &'static str, more: &str| {
        let text = format!(
            "listen: ['unix:a']\npolicies: {{keyvalue: {{redis: {{env: URL}}{more}}}, entries: {{a: {{file: a}}}}}}"
        );
        Settings::parse(&text, Path::new("/etc/postern"), &|name| {
            (name == "URL").then(|| url.into())
        })
    };
    for (url, more, expected) in [
        ("redis://127.0.0.1", "", true),
        ("rediss://:hunter2@db.example.com", "", true),
        ("redis://:hunter2@db.example.com", "", false),
        ("redis://:hunter2@db.example.com", ", plaintext: false", false),
        ("redis://:hunter2@db.example.com", ", plaintext: true", true),
    ] {
        match with(url, more) {
            Ok(_) => assert!(expected, "{url}{more}"),
            Err(errors) => {
                let text = errors.to_string();
                assert!(
                    !expected && text.contains("rediss://") && !text.contains("hunter2"),
                    "{text}"
                );
            }
        }
    }
}

#[test]
fn bounds_on_connections_and_weights() {
    let with = |connections: usize, weight: u32| {
        parse(&format!(
            "listen: ['unix:a']\nconnections: {connections}\npolicies: {{state: s, entries: {{a: {{file: a, weight: {weight}}}}}}}"
        ))
    };
    let settings = with(16, 1000).unwrap();
    assert_eq!(
        (settings.connections, settings.policies.entries["a"].limits.weight),
        (16, 1000)
    );
    assert_eq!(settings.policies.state, Some(PathBuf::from("/etc/postern/s")));
    for (connections, weight) in [(15, 1), (1 << 21, 1), (16, 0), (16, 1001)] {
        assert!(with(connections, weight).is_err(), "{connections} {weight}");
    }
}

#[test]
fn an_audit_store_beyond_this_machine_wants_tls() {
    let text = "listen: ['unix:a.sock']\naudit: {store: {postgres: {env: DB}}}";
    for (url, expected) in [
        ("postgres://u:hunter2@127.0.0.1/a", None),
        ("postgres://u:hunter2@db/a", None),
        ("postgres://u:hunter2@db/a?sslmode=disable", None),
        (
            "postgres://u:hunter2@db/a?sslmode=prefer",
            Some("allows plaintext"),
        ),
        (
            "postgres://u:hunter2@db/a?sslpassword=hunter2",
            Some("an unknown parameter"),
        ),
        ("mysql://u:hunter2@db/a", Some("does not hold a Postgres URL")),
    ] {
        let found = Settings::parse(text, Path::new("/"), &|name| {
            (name == "DB").then(|| url.to_owned())
        });
        let issues = found.err().map_or_else(String::new, |errors| errors.to_string());
        assert!(!issues.contains("hunter2"), "{issues}");
        let about = issues
            .lines()
            .find(|line| line.contains("audit.store"))
            .map(str::to_owned);
        let fits = match (&about, expected) {
            (None, None) => true,
            (Some(about), Some(expected)) => about.contains(expected),
            _ => false,
        };
        assert!(fits, "{url}: {issues}");
    }
}
