//! Envoy with the shipped configuration (`envoy/envoy.yaml`, `envoy/gate.ecds.yaml`), another gate and, where a test
//! needs them, changed lines.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use postern_testbed::envoy::{self, Builder, Envoy};
use postern_testbed::idp::IdentityProvider;
use postern_testbed::sample_api::SampleApi;
use postern_testbed::template::{one_line_json, render, single_quoted};
use postern_testbed::{paths, wasm};
use serde_json::Value;

/// Envoy itself responds with 200 to admitted requests below this path.
pub const DIRECT: &str = "/direct";

/// The shipped file that Envoy watches for the filter's configuration.
const FILTER: &str = "gate.ecds.yaml";

/// The lines of the shipped bootstrap that make Envoy watch [`FILTER`].
const DISCOVERY: &str = "          - name: postern\n            config_discovery:\n";

/// How long a statistic may take to appear: the filter publishes them on ticks of 100 ms.
const STATS_DEADLINE: Duration = Duration::from_secs(2);

/// The prefix of the filter's decision counters.
const RULE_PREFIX: &str = "wasmcustom.postern.rule.";

/// The shipped `envoy/gate.yaml`.
#[must_use]
pub fn audited_gate_yaml() -> Value {
    serde_saphyr::from_str(&shipped("gate.yaml")).unwrap()
}

/// The shipped `envoy/gate.yaml` without its audit settings: without an audit server the filter would keep retrying.
#[must_use]
pub fn gate_yaml() -> Value {
    let mut gate = audited_gate_yaml();
    gate.as_object_mut().unwrap().remove("audit");
    for rule in gate["rules"].as_array_mut().unwrap() {
        rule.as_object_mut().unwrap().remove("audit");
    }
    gate
}

fn shipped(name: &str) -> String {
    std::fs::read_to_string(paths::workspace().join("envoy").join(name)).unwrap()
}

/// An address on which nothing listens.
const UNREACHABLE: HostAddress = HostAddress::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1));

/// A configuration of the test environment.
#[derive(Debug, Clone)]
pub struct Setup {
    gate: Value,
    workers: u32,
    environment: Vec<(String, Option<String>)>,
    replacements: Vec<(&'static str, String)>,
    host: Option<HostAddress>,
}

#[derive(Debug, Clone)]
enum HostAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(
                f,
                "{{socket_address: {{address: {}, port_value: {}}}}}",
                addr.ip(),
                addr.port()
            ),
            Self::Unix(path) => write!(f, "{{pipe: {{path: '{}'}}}}", path.display()),
        }
    }
}

impl Setup {
    /// One worker, no environment variables and no policy host.
    #[must_use]
    pub fn new(gate: Value) -> Self {
        let direct = format!(
            "routes:\n              - {{match: {{prefix: {DIRECT}}}, direct_response: {{status: 200}}}}\n"
        );
        Self {
            gate,
            workers: 1,
            environment: Vec::new(),
            replacements: vec![("routes:\n", direct)],
            host: None,
        }
    }

    /// Sets the number of worker threads of Envoy.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// Sets an environment variable that Envoy passes to the VM.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), Some(value.to_owned())));
        self
    }

    /// Configures Envoy to pass this variable to the VM, without setting it.
    #[must_use]
    pub fn env_missing(mut self, name: &str) -> Self {
        self.environment.push((name.to_owned(), None));
        self
    }

    /// Replaces text of the shipped files.
    ///
    /// # Panics
    /// If neither file contains `from`.
    #[must_use]
    pub fn replace(mut self, from: &'static str, to: impl Into<String>) -> Self {
        let found = ["envoy.yaml", FILTER]
            .iter()
            .any(|name| shipped(name).contains(from));
        assert!(found, "the shipped files do not contain {from:?}");
        self.replacements.push((from, to.into()));
        self
    }

    /// Adds a field to the connection manager.
    #[must_use]
    pub fn connection_manager(self, field: &str) -> Self {
        self.replace(
            "          codec_type: AUTO\n",
            format!("          codec_type: AUTO\n          {field}\n"),
        )
    }

    /// Sets the address of the cluster `postern_host`; unreachable unless set.
    #[must_use]
    pub fn policy_host(mut self, addr: SocketAddr) -> Self {
        self.host = Some(HostAddress::Tcp(addr));
        self
    }

    /// Sets the Unix socket of the cluster `postern_host`.
    #[must_use]
    pub fn policy_host_socket(mut self, socket: PathBuf) -> Self {
        self.host = Some(HostAddress::Unix(socket));
        self
    }

    /// Replaces the gate.
    #[must_use]
    pub fn gate(mut self, gate: Value) -> Self {
        self.gate = gate;
        self
    }

    /// Envoy's bootstrap, which watches a file beside it that contains [`filter`](Self::filter).
    #[must_use]
    pub fn bootstrap(&self, idp: &IdentityProvider, api: &SampleApi) -> String {
        self.with_ports(shipped("envoy.yaml"), idp, api)
    }

    /// The bootstrap with the filter inline, for tests of the start of Envoy or of listener updates.
    #[must_use]
    pub fn inline_bootstrap(&self, idp: &IdentityProvider, api: &SampleApi) -> String {
        let text = shipped("envoy.yaml");
        let (before, rest) = text.split_once(DISCOVERY).unwrap();
        let (_, after) = rest
            .split_once("          - name: envoy.filters.http.router\n")
            .unwrap();
        let filter = shipped(FILTER);
        let (_, typed) = filter.split_once("  typed_config:\n").unwrap();
        let typed: String = typed.lines().map(|line| format!("          {line}\n")).collect();
        let inline = format!(
            "{before}          - name: envoy.filters.http.wasm\n            typed_config:\n{typed}          - name: \
             envoy.filters.http.router\n{after}"
        );
        self.with_ports(inline, idp, api)
    }

    /// The watched file: the filter with its gate.
    #[must_use]
    pub fn filter(&self) -> String {
        self.rendered(shipped(FILTER), &[])
    }

    /// A shipped file with the replacements and values of this setup.
    fn rendered(&self, mut text: String, ports: &[(&str, &str)]) -> String {
        let names: Vec<&str> = self.environment.iter().map(|(name, _)| name.as_str()).collect();
        text = text.replacen("[GITHUB_WEBHOOK_SECRET]", &format!("[{}]", names.join(", ")), 1);
        for (from, to) in &self.replacements {
            text = text.replacen(from, to, 1);
        }
        let filter = wasm::filter().unwrap_or_else(|error| panic!("{error}"));
        let wasm = single_quoted(&filter.to_string_lossy());
        let gate = single_quoted(&one_line_json(&self.gate));
        let mut values = vec![("WASM_PATH", wasm.as_str()), ("GATE_JSON", gate.as_str())];
        values.extend(ports);
        render(&text, &values).unwrap()
    }

    fn with_ports(&self, text: String, idp: &IdentityProvider, api: &SampleApi) -> String {
        let port = |addr: SocketAddr| addr.port().to_string();
        let host = self.host.as_ref().unwrap_or(&UNREACHABLE).to_string();
        self.rendered(
            text,
            &[
                ("LISTEN_PORT", "0"),
                ("ADMIN_PORT", "0"),
                ("API_PORT", &port(api.addr())),
                ("IDP_PORT", &port(idp.addr())),
                ("HOST_ADDRESS", &host),
                // Envoy's folder is created when it starts.
                ("GATE_FILE", "{{FOLDER}}/gate.ecds.yaml"),
            ],
        )
    }

    /// A builder of an Envoy with this bootstrap and the filter, workers and environment of this setup.
    pub fn envoy(&self, bootstrap: String) -> Builder {
        let binary = envoy::binary().unwrap_or_else(|error| panic!("{error}"));
        let builder = Envoy::builder(binary, bootstrap)
            .file(FILTER, self.filter())
            .concurrency(self.workers);
        let set = self
            .environment
            .iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)));
        set.fold(builder, |builder, (name, value)| builder.env(name, value))
    }

    /// Starts everything, with a new identity provider.
    #[must_use]
    pub fn start(self) -> Fixture {
        self.start_with(IdentityProvider::start().unwrap())
    }

    /// Starts everything with this identity provider.
    #[must_use]
    pub fn start_with(self, idp: IdentityProvider) -> Fixture {
        let api = SampleApi::start().unwrap();
        let started = self.envoy(self.bootstrap(&idp, &api)).start();
        let envoy = started.unwrap_or_else(|error| panic!("{error}"));
        Fixture { envoy, idp, api }
    }

    /// Starts Envoy with the filter inline in its bootstrap and returns the log.
    ///
    /// # Panics
    /// Unless Envoy rejects the configuration and exits.
    #[must_use]
    pub fn rejection_log(&self, case: &str) -> String {
        let idp = IdentityProvider::start().unwrap();
        let api = SampleApi::start().unwrap();
        match self.envoy(self.inline_bootstrap(&idp, &api)).start() {
            Err(envoy::Error::Exited { log, .. }) => log,
            Err(error) => panic!("{case}: Envoy failed without rejecting the configuration: {error}"),
            Ok(envoy) => panic!("{case}: Envoy accepted the configuration:\n{}", envoy.log()),
        }
    }
}

/// The running test environment. Prints Envoy's log when a test fails. Fields drop in order, so that Envoy stops before
/// the servers it connects to.
#[derive(Debug)]
pub struct Fixture {
    /// Envoy with the filter.
    pub envoy: Envoy,
    /// The cluster `idp`.
    pub idp: IdentityProvider,
    /// The upstream, cluster `api`.
    pub api: SampleApi,
}

impl Fixture {
    /// Replaces the watched filter configuration by an atomic rename.
    pub fn publish_filter(&self, filter: &str) {
        self.envoy.replace(FILTER, filter).unwrap();
    }

    /// The filter's decision counters by `<rule>.<reason>`.
    #[must_use]
    pub fn decision_counts(&self) -> BTreeMap<String, u64> {
        let stats = self.envoy.stats(RULE_PREFIX);
        stats
            .into_iter()
            .filter_map(|(name, count)| Some((name.strip_prefix(RULE_PREFIX)?.to_owned(), count)))
            .collect()
    }

    /// The decision counter `<rule>.<reason>`.
    #[must_use]
    pub fn decision_count(&self, name: &str) -> u64 {
        self.decision_counts().get(name).copied().unwrap_or_default()
    }

    /// Waits until the decision counters differ from `before` by exactly one `<rule>.<reason>`.
    ///
    /// # Panics
    /// If none or another decision was counted.
    pub fn expect_decision(&self, before: &BTreeMap<String, u64>, expected: &str, case: &str) {
        let mut expected_counts = before.clone();
        *expected_counts.entry(expected.to_owned()).or_default() += 1;
        let mut now = self.decision_counts();
        let deadline = Instant::now() + STATS_DEADLINE;
        while now == *before && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            now = self.decision_counts();
        }
        assert_eq!(now, expected_counts, "{case}: decisions counted");
    }

    /// Waits until a decision counter has this value.
    ///
    /// # Panics
    /// If it does not within 2 s.
    pub fn expect_count(&self, name: &str, count: u64) {
        let deadline = Instant::now() + STATS_DEADLINE;
        while self.decision_count(name) != count && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(
            self.decision_count(name),
            count,
            "{name}: {:?}",
            self.decision_counts()
        );
    }

    /// # Panics
    /// If a VM of the filter failed or rejected a configuration.
    pub fn assert_healthy(&self, case: &str) {
        let log = self.envoy.log();
        for word in ["Wasm VM failed", "[critical]"] {
            assert!(!log.contains(word), "{case}: {word:?} in Envoy's log");
        }
        self.assert_no_panic(case);
    }

    /// # Panics
    /// If a VM of the filter failed.
    pub fn assert_no_panic(&self, case: &str) {
        let log = self.envoy.log();
        for word in ["panicked", "Function: proxy_"] {
            assert!(!log.contains(word), "{case}: {word:?} in Envoy's log");
        }
        let failed =
            |name: &str| name.starts_with("wasm.") && (name.contains("fail") || name.contains("reload"));
        let stats = self.envoy.stats("wasm.");
        let failures: Vec<_> = stats
            .iter()
            .filter(|(name, value)| failed(name) && *value > 0)
            .collect();
        assert!(failures.is_empty(), "{case}: {failures:?}");
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.envoy.log();
            // At its start Envoy logs a long list of extensions.
            let lines = log
                .lines()
                .filter(|line| !line.contains("source/server/server.cc"));
            eprintln!("Envoy's log:\n{}", lines.collect::<Vec<_>>().join("\n"));
        }
    }
}
