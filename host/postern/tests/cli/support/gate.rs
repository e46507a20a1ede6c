//! A gate with every kind of credential, and requests to it.

use serde_json::Value;

use super::{Run, WorkDir};

const SECRET: &str = "hunter2-hunter2";

pub(crate) const GATE: &str = "
issuers:
  demo:
    issuer: https://idp.example
    audiences: [orders]
    algorithms: [RS256, ES256, EdDSA]
    jwks: {uri: 'http://idp.example/jwks', cluster: idp}
    roles_claim: realm_access.roles
signatures:
  partner: {scheme: keyed, header_prefix: x-postern-auth-, max_body: 1KiB,
            keys: [{id: p1, secrets: [{env: PARTNER_SECRET}], roles: [Signer]}]}
  hook: {scheme: github, secrets: [{env: HOOK_SECRET}]}
limits:
  few: {quota: 3, window: 60s, key: [address]}
host: {cluster: postern_host}
rules:
  - {name: health, match: {methods: [GET], path: {exact: /healthz}}, open: true}
  - {name: few, match: {path: {exact: /few}}, open: true, limits: [few]}
  - {name: admin, match: {path: {prefix: /admin}}, authenticate: {any: [issuers/demo]}, authorize: {roles: [Admin]}}
  - {name: sign, match: {methods: [POST], path: {exact: /sign}}, authenticate: {any: [signatures/partner]}}
  - {name: hook, match: {path: {exact: /hook}}, authenticate: {any: [signatures/hook]}}
  - {name: guarded, match: {path: {exact: /guarded}}, open: true, policy: {module: sentinel, body: 8B}}
  - {name: hosted, match: {hosts: [api.example], path: {exact: /hosted}}, open: true}
";

pub(crate) fn dir() -> WorkDir {
    let dir = WorkDir::new()
        .with("PARTNER_SECRET", SECRET)
        .with("HOOK_SECRET", SECRET);
    dir.file("gate.yaml", GATE);
    dir
}

/// Mints a token for alice with a key of this algorithm, and writes the key set to `jwks.json`.
pub(crate) fn bearer(dir: &WorkDir, algorithm: &str, role: &str, more: &[&str]) -> String {
    let mut args = vec![
        "token",
        "mint",
        "--issuer",
        "https://idp.example",
        "--audience",
        "orders",
    ];
    args.extend([
        "--subject",
        "alice",
        "--role",
        role,
        "--roles-claim",
        "realm_access.roles",
    ]);
    args.extend(["--algorithm", algorithm, "--jwks-out", "jwks.json"]);
    args.extend(more);
    let run = dir.run(&args);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
    format!("Authorization: Bearer {}", run.out.trim())
}

/// Tries a request with text and with JSON output, and returns both.
pub(crate) fn attempt(dir: &WorkDir, args: &[&str]) -> (Run, Value) {
    let mut all = vec!["try", "gate.yaml"];
    all.extend(args);
    let text = dir.run(&all);
    all.push("--json");
    let json = dir.run(&all);
    assert_eq!(text.code, json.code, "{text:?} {json:?}");
    assert!(!text.says("hunter2") && !json.says("hunter2"), "{text:?}");
    assert!(
        !text.says("eyJ") && !json.says("eyJ"),
        "no token is shown: {text:?}"
    );
    let document = json.json();
    (text, document)
}
