//! Envoy as shipped (`envoy/envoy.yaml`, `envoy/gate.ecds.yaml`), with another gate and, where a test needs it, a few
//! lines changed.

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

/// Below this path Envoy answers itself, with 200, what the gate admits.
pub const DIRECT: &str = "/direct";

/// The shipped file that Envoy watches for the filter's configuration.
const FILTER: &str = "gate.ecds.yaml";

/// Where the shipped bootstrap has it watched.
const DISCOVERY: &str = "          - name: postern\n            config_discovery:\n";

/// How long a statistic may take to appear: the filter hands them over on ticks of 100 ms.
const STATS_DEADLINE: Duration = Duration::from_secs(2);

/// What begins the names of the filter's statistics on decisions.
const RULES: &str = "wasmcustom.postern.rule.";

/// The shipped `envoy/gate.yaml`, all of it.
#[must_use]
pub fn audited_gate_yaml() -> Value {
    serde_saphyr::from_str(&shipped("gate.yaml")).unwrap()
}

/// The shipped `envoy/gate.yaml`, which tells no audit log: where there is none, it would go on trying.
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

/// Nobody is there.
const NOBODY: HostAddress = HostAddress::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1));

/// What to start.
#[derive(Debug, Clone)]
pub struct Setup {
    gate: Value,
    workers: u32,
    environment: Vec<(String, Option<String>)>,
    changes: Vec<(&'static str, String)>,
    host: Option<HostAddress>,
}

/// Where the policy host is.
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
    /// One worker and no secrets.
    #[must_use]
    pub fn new(gate: Value) -> Self {
        let direct = format!(
            "routes:\n              - {{match: {{prefix: {DIRECT}}}, direct_response: {{status: 200}}}}\n"
        );
        Self {
            gate,
            workers: 1,
            environment: Vec::new(),
            changes: vec![("routes:\n", direct)],
            host: None,
        }
    }

    /// How many worker threads Envoy has.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// A variable that Envoy hands to the VM.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), Some(value.to_owned())));
        self
    }

    /// A variable that Envoy would hand to the VM, but which is not set.
    #[must_use]
    pub fn env_missing(mut self, name: &str) -> Self {
        self.environment.push((name.to_owned(), None));
        self
    }

    /// Changes a line of the shipped files.
    ///
    /// # Panics
    /// If neither holds it.
    #[must_use]
    pub fn change(mut self, from: &'static str, to: impl Into<String>) -> Self {
        let there = ["envoy.yaml", FILTER]
            .iter()
            .any(|name| shipped(name).contains(from));
        assert!(there, "the shipped files hold no {from:?} to be changed");
        self.changes.push((from, to.into()));
        self
    }

    /// Adds a field to the connection manager.
    #[must_use]
    pub fn connection_manager(self, field: &str) -> Self {
        self.change(
            "          codec_type: AUTO\n",
            format!("          codec_type: AUTO\n          {field}\n"),
        )
    }

    /// Where the cluster `postern_host` leads; to nobody, unless set.
    #[must_use]
    pub fn policy_host(mut self, addr: SocketAddr) -> Self {
        self.host = Some(HostAddress::Tcp(addr));
        self
    }

    /// The same by its Unix socket.
    #[must_use]
    pub fn policy_host_at(mut self, socket: PathBuf) -> Self {
        self.host = Some(HostAddress::Unix(socket));
        self
    }

    /// The same with another gate.
    #[must_use]
    pub fn gate(mut self, gate: Value) -> Self {
        self.gate = gate;
        self
    }

    /// Envoy's bootstrap, which watches [`filter`](Self::filter) in a file beside it.
    #[must_use]
    pub fn bootstrap(&self, idp: &IdentityProvider, api: &SampleApi) -> String {
        self.with_ports(shipped("envoy.yaml"), idp, api)
    }

    /// The same with the filter in it: where a test is of what Envoy does at its start, or with its listeners.
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

    /// The filter with its gate, as Envoy watches it.
    #[must_use]
    pub fn filter(&self) -> String {
        self.filled(shipped(FILTER), &[])
    }

    /// A shipped file with this setup's changes and values.
    fn filled(&self, mut text: String, ports: &[(&str, &str)]) -> String {
        let names: Vec<&str> = self.environment.iter().map(|(name, _)| name.as_str()).collect();
        text = text.replacen("[GITHUB_WEBHOOK_SECRET]", &format!("[{}]", names.join(", ")), 1);
        for (from, to) in &self.changes {
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
        let host = self.host.as_ref().unwrap_or(&NOBODY).to_string();
        self.filled(
            text,
            &[
                ("LISTEN_PORT", "0"),
                ("ADMIN_PORT", "0"),
                ("API_PORT", &port(api.addr())),
                ("IDP_PORT", &port(idp.addr())),
                ("HOST_ADDRESS", &host),
                // The folder is Envoy's own, and known once it starts.
                ("GATE_FILE", "{{FOLDER}}/gate.ecds.yaml"),
            ],
        )
    }

    /// An Envoy to be started from a bootstrap, with this setup's filter, workers and environment.
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

    /// Starts everything, with an identity provider in order.
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

    /// Starts Envoy with the filter in its bootstrap, which it must refuse. What it said.
    #[must_use]
    pub fn refused(&self, case: &str) -> String {
        let idp = IdentityProvider::start().unwrap();
        let api = SampleApi::start().unwrap();
        match self.envoy(self.inline_bootstrap(&idp, &api)).start() {
            Err(envoy::Error::Exited { log, .. }) => log,
            Err(error) => panic!("{case}: Envoy failed otherwise than by refusing: {error}"),
            Ok(envoy) => panic!("{case}: Envoy took the configuration:\n{}", envoy.log()),
        }
    }
}

/// What runs. Envoy's log is printed when a test fails. Fields drop in this order: Envoy goes before what it talks to.
#[derive(Debug)]
pub struct Fixture {
    /// Envoy with the filter.
    pub envoy: Envoy,
    /// Where the cluster `idp` leads.
    pub idp: IdentityProvider,
    /// What is behind the gate.
    pub api: SampleApi,
}

impl Fixture {
    /// Moves another file of filter configuration into place, as an operator would.
    pub fn publish(&self, filter: &str) {
        self.envoy.replace(FILTER, filter).unwrap();
    }

    /// The filter's counts of decisions, by `<rule>.<reason>`.
    #[must_use]
    pub fn decisions(&self) -> BTreeMap<String, u64> {
        let stats = self.envoy.stats(RULES);
        stats
            .into_iter()
            .filter_map(|(name, count)| Some((name.strip_prefix(RULES)?.to_owned(), count)))
            .collect()
    }

    /// One decision, by `<rule>.<reason>`.
    #[must_use]
    pub fn decided(&self, name: &str) -> u64 {
        self.decisions().get(name).copied().unwrap_or_default()
    }

    /// Waits until exactly one decision, `<rule>.<reason>`, was added to those of `before`.
    ///
    /// # Panics
    /// If none or another one was added.
    pub fn expect_decision(&self, before: &BTreeMap<String, u64>, expected: &str, case: &str) {
        let mut wanted = before.clone();
        *wanted.entry(expected.to_owned()).or_default() += 1;
        let mut now = self.decisions();
        let deadline = Instant::now() + STATS_DEADLINE;
        while now == *before && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            now = self.decisions();
        }
        assert_eq!(now, wanted, "{case}: decisions counted");
    }

    /// Waits until a decision was counted that often.
    ///
    /// # Panics
    /// If the count differs after the time a statistic may take.
    pub fn expect_count(&self, name: &str, count: u64) {
        let deadline = Instant::now() + STATS_DEADLINE;
        while self.decided(name) != count && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(self.decided(name), count, "{name}: {:?}", self.decisions());
    }

    /// # Panics
    /// If a VM of the filter failed, or refused a configuration.
    pub fn assert_sound(&self, case: &str) {
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
            // What Envoy says of its extensions at its start is long and of no use.
            let lines = log
                .lines()
                .filter(|line| !line.contains("source/server/server.cc"));
            eprintln!("Envoy's log:\n{}", lines.collect::<Vec<_>>().join("\n"));
        }
    }
}
