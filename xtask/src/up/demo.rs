//! The servers of the gate, and the credentials for it.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use postern_testbed::envoy::Envoy;
use postern_testbed::idp::{Alg, IdentityProvider};
use postern_testbed::policy_host::PolicyHost;
use postern_testbed::sample_api::SampleApi;
use postern_testbed::template::{one_line_json, render, single_quoted};
use postern_testbed::{paths, sign, tokens};
use serde_json::json;

use super::calls::{Call, Expected};
use super::gate;

/// The file in which Envoy watches the filter and its gate.
pub(super) const FILTER: &str = "gate.ecds.yaml";

const ISSUER: &str = "https://idp.example";
const AUDIENCE: &str = "orders";
const HOUR: i64 = 3600;
const WEBHOOK: &str = r#"{"action":"opened","number":1}"#;

/// The servers of the gate. Fields drop in this order: Envoy stops before the servers that it calls.
pub(super) struct Demo {
    pub(super) envoy: Envoy,
    idp: IdentityProvider,
    _api: SampleApi,
    api_key: String,
    webhook_secret: String,
}

impl Demo {
    /// Starts everything but the policy host, which Envoy will find in `host_folder`, and its KMS proxy.
    pub(super) fn start(
        envoy: &Path,
        filter: &Path,
        host_folder: &Path,
        port: u16,
        admin_port: u16,
    ) -> Result<Self> {
        let idp = IdentityProvider::start().context("cannot start the identity provider")?;
        let api = SampleApi::start().context("cannot start the sample API")?;
        let api_key = format!("demo_{}", random_hex()?);
        let webhook_secret = random_hex()?;

        let folder = paths::workspace().join("envoy");
        let read = |name: &str| {
            let file = folder.join(name);
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
        };
        let gate = gate::with_key(&read("gate.yaml")?, &api_key)?;
        let bootstrap = render(
            &read("envoy.yaml")?,
            &[
                ("LISTEN_PORT", &port.to_string()),
                ("ADMIN_PORT", &admin_port.to_string()),
                ("API_PORT", &api.addr().port().to_string()),
                ("IDP_PORT", &idp.addr().port().to_string()),
                (
                    "HOST_ADDRESS",
                    &format!(
                        "{{pipe: {{path: '{}'}}}}",
                        single_quoted(&PolicyHost::socket_in(host_folder).to_string_lossy())
                    ),
                ),
                // In Envoy's own folder, which is created when it starts.
                ("GATE_FILE", &format!("{{{{FOLDER}}}}/{FILTER}")),
            ],
        )?;
        let filter = render(
            &read(FILTER)?,
            &[
                ("WASM_PATH", &single_quoted(&filter.to_string_lossy())),
                ("GATE_JSON", &single_quoted(&one_line_json(&gate))),
            ],
        )?;
        let envoy = Envoy::builder(envoy, bootstrap)
            .file(FILTER, filter)
            .env("GITHUB_WEBHOOK_SECRET", &webhook_secret)
            .start()?;
        Ok(Self {
            envoy,
            idp,
            _api: api,
            api_key,
            webhook_secret,
        })
    }

    /// A token of the demo's issuer.
    fn token(&self, audience: &str, ttl_seconds: i64, roles: &[&str]) -> String {
        let mut claims = tokens::claims(ISSUER, audience, "alice", ttl_seconds);
        if let Some(claims) = claims.as_object_mut() {
            claims.insert("realm_access".to_owned(), json!({ "roles": roles }));
        }
        self.idp.mint(Alg::Rs256, &claims)
    }

    fn good_token(&self) -> String {
        self.token(AUDIENCE, HOUR, &["User"])
    }

    /// The token of a service that may request signatures.
    fn service_token(&self) -> String {
        self.token(AUDIENCE, HOUR, &["Service"])
    }

    /// The simplest call that needs the issuer's keys.
    pub(super) fn token_call(&self) -> Call {
        Call::get("a good token", "/orders/7", Expected::status(200)).bearer(&self.good_token())
    }

    /// Every kind of caller that the gate decides on alone, with the expected results.
    pub(super) fn gate_calls(&self) -> Vec<Call> {
        let signature = sign::github(&self.webhook_secret, WEBHOOK);
        let orders = |name, expected| Call::get(name, "/orders/7", expected);
        let refused = Expected::refusal;
        let mut calls = vec![
            Call::get("health, open to all", "/healthz", Expected::status(200)),
            orders("no credentials", refused(401, "credentials_missing")),
            self.token_call(),
            orders("an expired token", refused(401, "token_expired")).bearer(&self.token(AUDIENCE, -60, &[])),
            orders("a token for another API", refused(401, "token_invalid")).bearer(&self.token(
                "billing",
                HOUR,
                &[],
            )),
            orders("a tampered token", refused(401, "token_invalid"))
                .bearer(&tokens::tamper(&self.good_token())),
            Call::get(
                "a token without the role",
                "/admin/users",
                refused(403, "role_missing"),
            )
            .bearer(&self.good_token()),
            Call::get("a token with the role", "/admin/users", Expected::status(200)).bearer(&self.token(
                AUDIENCE,
                HOUR,
                &["Admin"],
            )),
            orders("a good API key", Expected::status(200)).header("x-api-key", &self.api_key),
            orders("an unknown API key", refused(401, "key_invalid"))
                .header("x-api-key", &format!("{}0", self.api_key)),
            webhook("a signed webhook", &signature, WEBHOOK, Expected::status(200)),
            webhook(
                "the same, one byte changed",
                &signature,
                &WEBHOOK.replace('1', "2"),
                refused(401, "signature_invalid"),
            ),
            Call::get("a path in no rule", "/internal", refused(403, "no_rule")).bearer(&self.good_token()),
        ];
        let limited =
            |name: &str, expected| Call::get(name, "/limited", expected).header("x-api-key", &self.api_key);
        for number in 1..=5 {
            calls.push(limited(
                &format!("quota of 5: request {number}"),
                Expected::status(200),
            ));
        }
        calls.push(limited("quota of 5: request 6", refused(429, "limit_exceeded")));
        calls
    }

    /// Calls that need the policy host: policies, a signature, an admission on record.
    pub(super) fn host_calls(&self) -> Vec<Call> {
        let refused = Expected::refusal;
        vec![
            Call::get("a policy allows", "/reports/7", Expected::status(200)).bearer(&self.good_token()),
            Call::get(
                "a policy denies",
                "/reports/7/draft",
                refused(403, "role_missing"),
            )
            .bearer(&self.good_token()),
            allocate("a body within a policy's bounds", 8, Expected::status(200)).bearer(&self.good_token()),
            allocate("a body beyond them", 65, refused(403, "limit_exceeded")).bearer(&self.good_token()),
            sign("a signature, without the role", refused(403, "role_missing")).bearer(&self.good_token()),
            sign("a signature by the key in the token", Expected::status(200)).bearer(&self.service_token()),
        ]
    }

    /// A few to paste into a shell.
    pub(super) fn calls_to_paste(&self) -> Vec<Call> {
        let any = || Expected::status(200);
        vec![
            self.token_call(),
            Call::get("an Admin's token", "/admin/users", any()).bearer(&self.token(
                AUDIENCE,
                HOUR,
                &["Admin"],
            )),
            Call::get("an API key; five at once, then 429", "/limited", any())
                .header("x-api-key", &self.api_key),
            allocate("a body that a policy reads; 65 is too much", 8, any()).bearer(&self.good_token()),
            sign("a signature by the key in the token", any()).bearer(&self.service_token()),
            webhook(
                "a signed webhook",
                &sign::github(&self.webhook_secret, WEBHOOK),
                WEBHOOK,
                any(),
            ),
        ]
    }
}

fn allocate(name: &str, cpus: u32, expected: Expected) -> Call {
    let body = json!({"team": "demo", "cpus": cpus}).to_string();
    Call::post(name, "/allocate", &body, expected)
}

fn sign(name: &str, expected: Expected) -> Call {
    // "hello"
    Call::post(name, "/kernel/sign", r#"{"payload_b64":"aGVsbG8="}"#, expected)
}

fn webhook(name: &str, signature: &str, body: &str, expected: Expected) -> Call {
    Call::post(name, "/webhooks/github", body, expected).header("x-hub-signature-256", signature)
}

fn random_hex() -> Result<String> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(sign::hex(&bytes))
}
