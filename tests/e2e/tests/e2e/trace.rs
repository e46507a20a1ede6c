//! The policy host continues the trace of its caller and exports its spans to a collector.

use std::time::{Duration, Instant};

use postern_testbed::collector::Collector;
use postern_testbed::policy_host::{self, PolicyHost};
use serde_json::json;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TRACE_BYTES: [u8; 16] = [
    0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d, 0x0e, 0x0e, 0x47, 0x36,
];
const PARENT: &str = "00f067aa0ba902b7";
const PARENT_BYTES: [u8; 8] = [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7];

#[tokio::test]
async fn the_host_continues_the_trace_of_its_caller() {
    let collector = Collector::start().unwrap();
    let endpoint = format!("http://{}", collector.addr());
    let settings = json!({"gate": {"token": {"env": "POSTERN_GATE_TOKEN"}}, "signing": {}});
    let environment = [
        ("POSTERN_GATE_TOKEN", "a-token-of-more-than-16-bytes"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let binary = policy_host::binary().unwrap_or_else(|error| panic!("{error}"));
    let host = PolicyHost::start_with(binary, &settings, &environment, |_| Ok(()));
    let mut host = host.unwrap_or_else(|error| panic!("{error}"));
    let client = postern_testbed::http::builder()
        .unix_socket(host.socket())
        .build()
        .unwrap();
    let request = client
        .post("http://host/sign")
        .header("content-type", "application/json")
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .body(r#"{"payload_b64": "aGVsbG8="}"#);
    assert_eq!(request.send().await.unwrap().status(), 200);
    let started = Instant::now();
    while !(collector.received(&TRACE_BYTES)
        && collector.received(&PARENT_BYTES)
        && collector.received(b"/sign"))
    {
        assert!(started.elapsed() < Duration::from_secs(10), "{}", host.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Spans do not contain the payload.
    assert!(!collector.received(b"aGVsbG8="));
    host.stop().unwrap();
}
