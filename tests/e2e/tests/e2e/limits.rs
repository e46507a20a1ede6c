//! Rate limits: exact across workers, in bounded memory, and reported to clients.

use std::io::{BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use postern_e2e::{Fixture, Http1Connection, Request, Response, Setup, Version, client, headers_frame};
use postern_testbed::sign;
use serde_json::{Value, json};

fn start(limits: &Value, rules: &Value) -> Fixture {
    let gate = json!({
        "api_keys": {"agents": {"keys": [
            {"id": "one", "digest": sign::api_key_digest("one")},
            {"id": "two", "digest": sign::api_key_digest("two")},
        ]}},
        "limits": limits,
        "rules": rules,
    });
    Setup::new(gate).workers(2).start()
}

/// A rule for all paths below `/direct/<name>`, where Envoy itself responds.
fn rule(name: &str, open: bool, limits: &[&str]) -> Value {
    let mut rule =
        json!({"name": name, "match": {"path": {"prefix": format!("/direct/{name}")}}, "limits": limits});
    if open {
        rule["open"] = json!(true);
    } else {
        rule["authenticate"] = json!({"any": ["api_keys/agents"]});
    }
    rule
}

fn assert_both_workers_had_connections(fixture: &Fixture) {
    let busy = fixture
        .envoy
        .stats("listener.")
        .into_iter()
        .filter(|(name, count)| {
            name.contains("worker_") && name.ends_with("downstream_cx_total") && *count > 0
        });
    assert_eq!(busy.count(), 2, "a worker has no connection");
}

/// 32 connections send 5,000 requests under a limit with a burst of 200 and 20 requests per second.
///
/// A limit admits at most `burst + t * rate` requests in any interval `t`. For the upper bound, `t` lasts from before the
/// first request until after the last response and includes all decisions. A request is refused only after that many
/// were admitted. For the lower bound, `t` lasts from the first response, when counting had started, until the last
/// refused request was sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_exact_across_workers() {
    const BURST: u64 = 200;
    const RATE: f64 = 20.0;
    let fixture = start(
        &json!({"exact": {"quota": 200, "window": "10s", "key": ["api_key"]}}),
        &json!([rule("exact", false, &["exact"])]),
    );
    let addr = fixture.envoy.addr();
    let mut connections = Vec::new();
    for _ in 0..32 {
        connections.push(Http1Connection::open(addr).await);
    }
    let started = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(index, mut connection)| {
            tokio::spawn(async move {
                // 5,000 = 32 * 156 + 8
                let mut results = Vec::new();
                for _ in 0..156 + usize::from(index < 8) {
                    let sent = Instant::now();
                    connection
                        .write(b"GET /direct/exact HTTP/1.1\r\nhost: a\r\nx-api-key: one\r\n\r\n")
                        .await;
                    let status = connection.read_response().await.unwrap().status;
                    results.push((sent, Instant::now(), status));
                }
                results
            })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.extend(task.await.unwrap());
    }
    let ended = Instant::now();
    assert_eq!(results.len(), 5_000);
    let others: Vec<_> = results
        .iter()
        .filter(|(_, _, status)| ![200, 429].contains(status))
        .collect();
    assert!(others.is_empty(), "{others:?}");
    let admitted = results.iter().filter(|(_, _, status)| *status == 200).count() as u64;

    let outer = ended.duration_since(started).as_secs_f64();
    let most = BURST + (outer * RATE).floor() as u64;
    let first_response = results.iter().map(|(_, received, _)| *received).min().unwrap();
    let last_refused = results
        .iter()
        .filter(|(_, _, status)| *status == 429)
        .map(|(sent, ..)| *sent)
        .max();
    let inner = last_refused.unwrap().saturating_duration_since(first_response);
    let least = BURST + (inner.as_secs_f64() * RATE).floor() as u64;
    println!("{admitted} admitted of 5,000 in {outer:.2} s; the limit allows {least} to {most}");
    assert!(admitted <= most, "{admitted} admitted, more than {most}");
    assert!(admitted >= least, "{admitted} admitted, fewer than {least}");
    assert_both_workers_had_connections(&fixture);
    fixture.expect_count("exact.admitted", admitted);
    fixture.expect_count("exact.limit_exceeded", 5_000 - admitted);
    fixture.assert_healthy("exact");
}

/// Eight requests for each of 1,000 keys, in another order on each connection, under a limit of five per minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_is_exact_for_each_of_many_keys() {
    const KEYS: usize = 1_000;
    let fixture = start(
        &json!({"many": {"quota": 5, "window": "60s", "key": ["header:x-client"]}}),
        &json!([rule("many", true, &["many"])]),
    );
    let started = Instant::now();
    // 16 connections with 500 keys each: eight requests per key.
    let tasks: Vec<_> = (0..16)
        .map(|connection_index: usize| {
            let addr = fixture.envoy.addr();
            tokio::spawn(async move {
                let mut connection = Http1Connection::open(addr).await;
                let mut admitted = Vec::new();
                for step in 0..KEYS / 2 {
                    let key =
                        (connection_index % 2) * (KEYS / 2) + (step * 7 + connection_index * 61) % (KEYS / 2);
                    let request =
                        format!("GET /direct/many HTTP/1.1\r\nhost: a\r\nx-client: client-{key}\r\n\r\n");
                    connection.write(request.as_bytes()).await;
                    let response = connection.read_response().await.unwrap();
                    match response.status {
                        200 => admitted.push(key),
                        _ => response.expect(429, Some("limit_exceeded"), "one of many keys"),
                    }
                }
                admitted
            })
        })
        .collect();
    let mut admitted = vec![0; KEYS];
    for task in tasks {
        for key in task.await.unwrap() {
            admitted[key] += 1;
        }
    }
    // Another request is admitted every 12 s; the test takes far less unless the machine is very busy.
    let most = 5 + started.elapsed().as_secs() / 12;
    let wrong: Vec<_> = admitted
        .iter()
        .enumerate()
        .filter(|(_, count)| !(5..=most).contains(count))
        .collect();
    assert!(wrong.is_empty(), "not 5 admitted: {wrong:?}");
    assert_both_workers_had_connections(&fixture);
    fixture.assert_healthy("many keys");
}

/// Sends one request per key over HTTP/2, 100 per write, and counts the responses with status 200. (Over HTTP/1.1 Envoy
/// closes a connection on which requests for a `direct_response` are pipelined.)
fn flood(addr: SocketAddr, keys: std::ops::Range<u32>) -> usize {
    const BATCH: usize = 100;
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    let mut incoming = BufReader::with_capacity(64 * 1024, stream.try_clone().unwrap());
    let (mut number, mut admitted) = (1_u32, 0);
    let keys: Vec<u32> = keys.collect();
    for batch in keys.chunks(BATCH) {
        let mut requests = Vec::new();
        for key in batch {
            let fields = [
                (":method", "GET"),
                (":scheme", "http"),
                (":authority", "a"),
                (":path", "/direct/flood"),
                ("x-client", &key.to_string()),
            ];
            requests.extend(headers_frame(number, &fields));
            number += 2;
        }
        stream.write_all(&requests).unwrap();
        let mut responses = 0;
        while responses < batch.len() {
            let mut head = [0; 9];
            incoming.read_exact(&mut head).unwrap();
            let [_, high, low, kind, flags, ..] = head;
            let mut payload = vec![0; usize::from(high) << 8 | usize::from(low)];
            incoming.read_exact(&mut payload).unwrap();
            match (kind, flags & 1) {
                // HEADERS that end the stream: a response without a body. 0x88 is ":status: 200" (RFC 7541, appendix A).
                (1, 1) => {
                    responses += 1;
                    admitted += usize::from(payload[0] == 0x88);
                }
                // DATA that ends the stream: a refusal.
                (0, 1) => responses += 1,
                // SETTINGS need an acknowledgement.
                (4, 0) => stream.write_all(b"\0\0\0\x04\x01\0\0\0\0").unwrap(),
                (3 | 7, _) => panic!("Envoy reset a stream or closed the connection: {payload:?}"),
                _ => {}
            }
        }
    }
    admitted
}

fn flood_all(fixture: &Fixture, keys: std::ops::Range<u32>) -> usize {
    const CONNECTIONS: u32 = 4;
    let addr = fixture.envoy.addr();
    let share = (keys.end - keys.start) / CONNECTIONS;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|index| {
                let from = keys.start + index * share;
                scope.spawn(move || flood(addr, from..from + share))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// The table of a limit has a fixed number of slots, so a million clients need no more memory than a few.
#[tokio::test]
async fn a_million_keys_need_bounded_memory() {
    const WARM_UP: u32 = 200_000;
    const ALL: u32 = 1_000_000;
    const GROWTH: u64 = 16 << 20;
    let fixture = start(
        &json!({"flood": {"quota": 5, "window": "60s", "key": ["header:x-client"]}}),
        &json!([rule("flood", true, &["flood"])]),
    );
    let started = Instant::now();
    assert_eq!(
        flood_all(&fixture, 0..WARM_UP),
        WARM_UP as usize,
        "the first request of each key"
    );
    let warm = fixture.envoy.rss_bytes().unwrap();
    let rest = flood_all(&fixture, WARM_UP..ALL);
    assert_eq!(rest, (ALL - WARM_UP) as usize, "the first request of each key");
    let grown = fixture.envoy.rss_bytes().unwrap().saturating_sub(warm);
    println!(
        "1,000,000 keys in {:.1} s; {} KiB grown after {WARM_UP} keys",
        started.elapsed().as_secs_f64(),
        grown / 1024
    );
    assert!(grown < GROWTH, "grown by {grown} bytes");

    // The limit still works.
    let client = client(Version::Http1);
    let request = Request::get("/direct/flood").header("x-client", "the last one");
    for _ in 0..5 {
        request
            .send(&client, &fixture)
            .await
            .expect(200, None, "within the quota");
    }
    let over = request.send(&client, &fixture).await;
    over.expect(429, Some("limit_exceeded"), "beyond the quota");
    fixture.assert_healthy("a million keys");
}

fn limit_headers(response: &Response) -> (Option<&str>, Option<&str>, Option<&str>) {
    (
        response.header("ratelimit-policy"),
        response.header("ratelimit"),
        response.header("retry-after"),
    )
}

#[tokio::test]
async fn responses_report_limits_and_retry_after_is_exact() {
    let fixture = start(
        &json!({
            "slow": {"quota": 3, "window": "6s", "key": ["api_key"]},
            "wide": {"quota": 100, "window": "100s", "burst": 10, "key": ["subject"]},
            "tools": {"quota": 1, "window": "60s", "key": ["api_key", "header:x-tool"]},
        }),
        &json!([
            rule("slow", false, &["slow"]),
            rule("both", false, &["wide", "slow"]),
            rule("tools", false, &["tools"])
        ]),
    );
    let client = client(Version::Http1);
    let slow = Request::get("/direct/slow").api_key("one");
    let policy = Some("\"slow\";q=3;w=6");
    for left in [2, 1, 0] {
        let response = slow.send(&client, &fixture).await;
        response.expect(200, None, "within the quota");
        let state = format!("\"slow\";r={left};t=2");
        assert_eq!(limit_headers(&response), (None, Some(state.as_str()), None));
    }
    let refused = slow.send(&client, &fixture).await;
    refused.expect(429, Some("limit_exceeded"), "beyond the quota");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    // A request is admitted every two seconds: the next one at most two seconds after the first.
    assert!((1..=2).contains(&wait), "{wait}");
    let (state, retry) = (format!("\"slow\";r=0;t={wait}"), wait.to_string());
    assert_eq!(
        limit_headers(&refused),
        (policy, Some(state.as_str()), Some(retry.as_str()))
    );
    // Another caller has its own count.
    let other = Request::get("/direct/slow")
        .api_key("two")
        .send(&client, &fixture)
        .await;
    other.expect(200, None, "another caller");

    tokio::time::sleep(Duration::from_secs(wait)).await;
    slow.send(&client, &fixture)
        .await
        .expect(200, None, "after Retry-After");
    let again = slow.send(&client, &fixture).await;
    again.expect(429, Some("limit_exceeded"), "one more is admitted, not two");

    // Two limits: both are reported, the tighter one refuses, and the other is not charged. Rules share the count of a
    // limit.
    let both = Request::get("/direct/both")
        .api_key("one")
        .send(&client, &fixture)
        .await;
    both.expect(429, Some("limit_exceeded"), "two limits");
    assert_eq!(
        both.header("ratelimit-policy"),
        Some("\"wide\";q=100;w=100, \"slow\";q=3;w=6")
    );
    let state = both.header("ratelimit").unwrap();
    assert!(state.starts_with("\"wide\";r=10;t=0, \"slow\";r=0;t="), "{state}");

    for (tool, status) in [("a", 200), ("a", 429), ("b", 200), ("b", 429), ("", 200)] {
        let request = Request::get("/direct/tools")
            .api_key("one")
            .header("x-tool", tool);
        assert_eq!(
            request.send(&client, &fixture).await.status,
            status,
            "tool {tool:?}"
        );
    }
    fixture.assert_healthy("reported");
}

#[tokio::test]
async fn the_address_of_a_client_is_that_of_its_connection() {
    let fixture = start(
        &json!({"address": {"quota": 3, "window": "60s", "key": ["address"]}}),
        &json!([
            rule("open", true, &["address"]),
            rule("gated", false, &["address"])
        ]),
    );
    let addr = fixture.envoy.addr();
    let get = async |from: [u8; 4], path: &str, headers: &str| {
        let mut connection = Http1Connection::open_from(IpAddr::from(from), addr).await;
        let request = format!("GET /direct/{path} HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
        connection.write(request.as_bytes()).await;
        connection.read_response().await.unwrap().status
    };
    let (one, two, three) = ([127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3]);
    for (from, path, headers, status) in [
        (one, "open", "", 200),
        (one, "open", "x-forwarded-for: 203.0.113.1\r\n", 200),
        (one, "open", "x-forwarded-for: 203.0.113.2\r\n", 200),
        // Headers of the client do not change its address.
        (one, "open", "x-forwarded-for: 203.0.113.3\r\n", 429),
        (
            one,
            "open",
            "forwarded: for=203.0.113.4\r\nx-real-ip: 203.0.113.4\r\n",
            429,
        ),
        (two, "open", "", 200),
        // Guesses of keys are counted, because the limit precedes authentication.
        (three, "gated", "x-api-key: guess-1\r\n", 401),
        (three, "gated", "x-api-key: guess-2\r\n", 401),
        (three, "gated", "x-api-key: one\r\n", 200),
        (three, "gated", "x-api-key: guess-3\r\n", 429),
        (three, "gated", "x-api-key: one\r\n", 429),
    ] {
        assert_eq!(
            get(from, path, headers).await,
            status,
            "{from:?} {path} {headers:?}"
        );
    }
    fixture.assert_healthy("addresses");
}
