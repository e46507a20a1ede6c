use super::*;

const DIRECT: &str = r#"
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: ingress
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: /}, direct_response: {status: 200, body: {inline_string: "hello"}}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
"#;

/// These tests fail rather than skip without `ENVOY_BIN`, because the end-to-end tests depend on what they test.
fn envoy_binary() -> PathBuf {
    match std::env::var_os("ENVOY_BIN") {
        Some(_) => binary().unwrap_or_else(|error| panic!("{error}")),
        None => panic!("ENVOY_BIN is not set: run `cargo xtask test`, which installs Envoy and sets it"),
    }
}

#[tokio::test]
async fn a_running_envoy_serves_reports_and_stops() {
    let mut envoy = Envoy::builder(envoy_binary(), DIRECT)
        .concurrency(1)
        .start()
        .unwrap();
    let text = crate::http::get(&envoy.url("/x"))
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert_eq!(text, "hello");
    assert_eq!(envoy.listener("ingress"), Some(envoy.addr()));
    assert_eq!(envoy.stat("http.ingress.downstream_rq_2xx"), Some(1));
    assert_eq!(envoy.stat("no.such.stat"), None);
    assert!(envoy.rss_bytes().unwrap() > 10_000_000);
    assert!(envoy.cpu_seconds().unwrap() > 0.0);
    assert!(
        envoy.log().contains("starting main dispatch loop"),
        "{}",
        envoy.log()
    );
    assert!(envoy.admin_get("/no-such-page").is_err());
    assert!(envoy.is_running());
    envoy.stop();
    assert!(!envoy.is_running());
}

#[test]
fn a_rejected_configuration_is_reported_with_the_log() {
    let started = Instant::now();
    let bootstrap = DIRECT.replace("stat_prefix: ingress", "stat_prefixx: ingress");
    let error = Envoy::builder(envoy_binary(), bootstrap).start().unwrap_err();
    assert!(matches!(error, Error::Exited { .. }), "{error}");
    assert!(error.to_string().contains("stat_prefixx"), "{error}");
    assert!(started.elapsed() < START_DEADLINE / 2);
}

#[test]
fn a_missing_binary_is_reported_with_its_path() {
    let error = Envoy::builder("/nonexistent/envoy", DIRECT).start().unwrap_err();
    assert!(error.to_string().contains("/nonexistent/envoy"), "{error}");
}
