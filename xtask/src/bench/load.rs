//! Runs an Envoy under load and measures its CPU time.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use postern_testbed::envoy::Envoy;
use postern_testbed::idp::{Alg, IdentityProvider};
use postern_testbed::paths;
use postern_testbed::template::{one_line_json, render};
use serde_json::{Value, json};

use super::variant::Variant;
use crate::command;

const ENVOY_CORE: usize = 0;
const LOAD_CORE: usize = 1;
const CONNECTIONS: u32 = 32;
/// Deadline of the first 200 response, for which Envoy may have to fetch keys.
const FIRST_RESPONSE: Duration = Duration::from_secs(15);
const RESPONSES: &str = "http.ingress.downstream_rq_";

/// A running variant.
pub(super) struct Bench {
    pub(super) variant: Variant,
    envoy: Envoy,
}

impl Bench {
    pub(super) fn start(
        variant: Variant,
        envoy: &Path,
        filter: &Path,
        idp: &IdentityProvider,
    ) -> Result<Self> {
        let file = paths::workspace().join("benches/envoy").join(variant.template);
        let template =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let jwks: Value = serde_json::from_str(&idp.keys().jwks_json_of(&[Alg::Rs256]))?;
        let gate = variant.gate.clone().unwrap_or(json!({}));
        let bootstrap = render(
            &template,
            &[
                ("LISTEN_PORT", "0"),
                ("ADMIN_PORT", "0"),
                // Used by Postern to fetch keys; no request is forwarded.
                ("UPSTREAM_PORT", &idp.addr().port().to_string()),
                ("WASM_PATH", &filter.to_string_lossy()),
                ("GATE_JSON", &one_line_json(&gate)),
                ("JWKS_JSON", &one_line_json(&jwks)),
            ],
        )?;
        let envoy = Envoy::builder(envoy, bootstrap)
            .concurrency(1)
            .log_level("warn")
            .on_core(ENVOY_CORE);
        let envoy = envoy
            .start()
            .with_context(|| format!("variant {}", variant.name))?;
        Ok(Self { variant, envoy })
    }

    /// Checks that the variant accepts the credential and refuses requests without it.
    pub(super) fn check(&self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let name = self.variant.name;
        let deadline = Instant::now() + FIRST_RESPONSE;
        while runtime.block_on(self.request(self.variant.header.as_ref()))? != 200 {
            if Instant::now() >= deadline {
                bail!(
                    "{name} does not respond with 200 to a valid request. Envoy's log:\n{}",
                    self.envoy.log()
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        if self.variant.header.is_some() && runtime.block_on(self.request(None))? != 401 {
            bail!("{name} does not refuse a request without credentials");
        }
        Ok(())
    }

    async fn request(&self, header: Option<&(&'static str, String)>) -> Result<u16> {
        let mut request = postern_testbed::http::builder().build()?.get(self.envoy.url("/"));
        if let Some((name, value)) = header {
            request = request.header(*name, value);
        }
        Ok(request.send().await?.status().as_u16())
    }

    /// Microseconds of CPU time of the whole process per request under full load.
    pub(super) fn measure(&mut self, duration: Duration) -> Result<f64> {
        let before = self.sample()?;
        self.load(duration)?;
        let after = self.sample()?;
        let responses = after.good.saturating_sub(before.good);
        if after.bad != before.bad || responses == 0 {
            let name = self.variant.name;
            bail!(
                "{name}: {responses} responses with 2xx, {} with another status",
                after.bad - before.bad
            );
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of requests is far below 2^52")]
        let responses = responses as f64;
        Ok((after.cpu_seconds - before.cpu_seconds) * 1e6 / responses)
    }

    fn sample(&self) -> Result<Sample> {
        let stats = self.envoy.stats(RESPONSES);
        let count = |class: &str| -> u64 {
            let name = format!("{RESPONSES}{class}");
            stats
                .iter()
                .find(|(known, _)| *known == name)
                .map_or(0, |(_, value)| *value)
        };
        let bad = ["1xx", "3xx", "4xx", "5xx"].into_iter().map(count).sum();
        Ok(Sample {
            cpu_seconds: self.envoy.cpu_seconds()?,
            good: count("2xx"),
            bad,
        })
    }

    fn load(&self, duration: Duration) -> Result<()> {
        let mut wrk = Command::new("taskset");
        wrk.args(["--cpu-list", &LOAD_CORE.to_string(), "wrk", "--threads", "1"])
            .args(["--connections", &CONNECTIONS.to_string()])
            .args(["--duration", &format!("{}s", duration.as_secs())]);
        if let Some((name, value)) = &self.variant.header {
            wrk.args(["--header", &format!("{name}: {value}")]);
        }
        let output = command::stdout(wrk.arg(self.envoy.url("/")))?;
        // wrk exits with 0 whatever the responses were, and reports errors only in its output.
        if output.contains("Socket errors") {
            bail!(
                "{}: the load generator reports errors:\n{output}",
                self.variant.name
            );
        }
        Ok(())
    }
}

struct Sample {
    cpu_seconds: f64,
    good: u64,
    bad: u64,
}
