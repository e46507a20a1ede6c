//! Rate limits: exact across workers, bounded in memory, and told to clients.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "for tests: what does not work ends the test"
)]

use std::io::{BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use postern_e2e::{Answer, Call, Connection, Fixture, Setup, Version, client, headers_frame};
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

/// A rule for all paths below `/direct/<name>`, which Envoy answers itself.
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

fn assert_both_workers_took_part(fixture: &Fixture) {
    let busy = fixture
        .envoy
        .stats("listener.")
        .into_iter()
        .filter(|(name, count)| {
            name.contains("worker_") && name.ends_with("downstream_cx_total") && *count > 0
        });
    assert_eq!(busy.count(), 2, "a worker had no connection");
}

/// 32 connections ask 5,000 times for what is granted 200 times, and 20 times a second.
///
/// A limit admits at most `burst + t * rate` in any interval `t`: the bound from above takes the time from before the
/// first request to after the last answer, in which all decisions lie. And a request is refused only when that much
/// was admitted: the bound from below takes the time from the first answer, by when counting had begun, to the sending
/// of a request that was then refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exact_across_workers() {
    const BURST: u64 = 200;
    const RATE: f64 = 20.0;
    let fixture = start(
        &json!({"exact": {"quota": 200, "window": "10s", "key": ["api_key"]}}),
        &json!([rule("exact", false, &["exact"])]),
    );
    let addr = fixture.envoy.addr();
    let mut connections = Vec::new();
    for _ in 0..32 {
        connections.push(Connection::open(addr).await);
    }
    let begun = Instant::now();
    let tasks: Vec<_> = connections
        .into_iter()
        .enumerate()
        .map(|(index, mut connection)| {
            tokio::spawn(async move {
                // 5,000 = 32 * 156 + 8
                let mut seen = Vec::new();
                for _ in 0..156 + usize::from(index < 8) {
                    let sent = Instant::now();
                    connection
                        .write(b"GET /direct/exact HTTP/1.1\r\nhost: a\r\nx-api-key: one\r\n\r\n")
                        .await;
                    let status = connection.answer().await.unwrap().status;
                    seen.push((sent, Instant::now(), status));
                }
                seen
            })
        })
        .collect();
    let mut seen = Vec::new();
    for task in tasks {
        seen.extend(task.await.unwrap());
    }
    let ended = Instant::now();
    assert_eq!(seen.len(), 5_000);
    let others: Vec<_> = seen
        .iter()
        .filter(|(_, _, status)| ![200, 429].contains(status))
        .collect();
    assert!(others.is_empty(), "{others:?}");
    let admitted = seen.iter().filter(|(_, _, status)| *status == 200).count() as u64;

    let whole = ended.duration_since(begun).as_secs_f64();
    let most = BURST + (whole * RATE).floor() as u64;
    let first_answer = seen.iter().map(|(_, answered, _)| *answered).min().unwrap();
    let last_refused = seen
        .iter()
        .filter(|(_, _, status)| *status == 429)
        .map(|(sent, ..)| *sent)
        .max();
    let inner = last_refused.unwrap().saturating_duration_since(first_answer);
    let least = BURST + (inner.as_secs_f64() * RATE).floor() as u64;
    println!("{admitted} admitted of 5,000 in {whole:.2} s; promised {least} to {most}");
    assert!(admitted <= most, "{admitted} admitted, {most} promised at most");
    assert!(
        admitted >= least,
        "{admitted} admitted, {least} promised at least"
    );
    assert_both_workers_took_part(&fixture);
    fixture.expect_count("exact.admitted", admitted);
    fixture.expect_count("exact.limit_exceeded", 5_000 - admitted);
    fixture.assert_sound("exact");
}

/// 1,000 keys ask eight times each, in another order on each connection; five are granted in a minute.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exact_for_each_of_many_keys() {
    const KEYS: usize = 1_000;
    let fixture = start(
        &json!({"many": {"quota": 5, "window": "60s", "key": ["header:x-client"]}}),
        &json!([rule("many", true, &["many"])]),
    );
    let begun = Instant::now();
    // 16 connections with 500 keys each: eight requests a key.
    let tasks: Vec<_> = (0..16)
        .map(|lane: usize| {
            let addr = fixture.envoy.addr();
            tokio::spawn(async move {
                let mut connection = Connection::open(addr).await;
                let mut admitted = Vec::new();
                for step in 0..KEYS / 2 {
                    let key = (lane % 2) * (KEYS / 2) + (step * 7 + lane * 61) % (KEYS / 2);
                    let request =
                        format!("GET /direct/many HTTP/1.1\r\nhost: a\r\nx-client: client-{key}\r\n\r\n");
                    connection.write(request.as_bytes()).await;
                    let answer = connection.answer().await.unwrap();
                    match answer.status {
                        200 => admitted.push(key),
                        _ => answer.expect(429, Some("limit_exceeded"), "one of many keys"),
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
    // One more is granted every 12 s; the test takes far less unless the machine is very busy.
    let most = 5 + begun.elapsed().as_secs() / 12;
    let wrong: Vec<_> = admitted
        .iter()
        .enumerate()
        .filter(|(_, count)| !(5..=most).contains(count))
        .collect();
    assert!(wrong.is_empty(), "not 5 admitted: {wrong:?}");
    assert_both_workers_took_part(&fixture);
    fixture.assert_sound("many keys");
}

/// Sends one request for each of the keys over HTTP/2, 100 in one write, and counts the answers that are 200. (Over
/// HTTP/1.1 Envoy closes a connection on which requests for a `direct_response` are pipelined.)
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
        let mut answers = 0;
        while answers < batch.len() {
            let mut head = [0; 9];
            incoming.read_exact(&mut head).unwrap();
            let [_, high, low, kind, flags, ..] = head;
            let mut payload = vec![0; usize::from(high) << 8 | usize::from(low)];
            incoming.read_exact(&mut payload).unwrap();
            match (kind, flags & 1) {
                // HEADERS that end the stream: an admitted request, answered without a body. 0x88 is ":status: 200".
                (1, 1) => {
                    answers += 1;
                    admitted += usize::from(payload[0] == 0x88);
                }
                // DATA that ends the stream: a refusal.
                (0, 1) => answers += 1,
                // SETTINGS want an acknowledgement.
                (4, 0) => stream.write_all(b"\0\0\0\x04\x01\0\0\0\0").unwrap(),
                (3 | 7, _) => panic!("Envoy ended a stream or the connection: {payload:?}"),
                _ => {}
            }
        }
    }
    admitted
}

fn flood_all(fixture: &Fixture, keys: std::ops::Range<u32>) -> usize {
    const LANES: u32 = 4;
    let addr = fixture.envoy.addr();
    let share = (keys.end - keys.start) / LANES;
    std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES)
            .map(|lane| {
                let from = keys.start + lane * share;
                scope.spawn(move || flood(addr, from..from + share))
            })
            .collect();
        lanes.into_iter().map(|lane| lane.join().unwrap()).sum()
    })
}

/// A million clients take no more memory than a few: the table has as many slots as it has.
#[tokio::test]
async fn a_million_keys_in_bounded_memory() {
    const WARM: u32 = 200_000;
    const ALL: u32 = 1_000_000;
    const GROWTH: u64 = 16 << 20;
    let fixture = start(
        &json!({"flood": {"quota": 5, "window": "60s", "key": ["header:x-client"]}}),
        &json!([rule("flood", true, &["flood"])]),
    );
    let begun = Instant::now();
    assert_eq!(
        flood_all(&fixture, 0..WARM),
        WARM as usize,
        "each key's first request"
    );
    let warm = fixture.envoy.rss_bytes().unwrap();
    let rest = flood_all(&fixture, WARM..ALL);
    assert_eq!(rest, (ALL - WARM) as usize, "each key's first request");
    let grown = fixture.envoy.rss_bytes().unwrap().saturating_sub(warm);
    println!(
        "1,000,000 keys in {:.1} s; {} KiB grown after {WARM} keys",
        begun.elapsed().as_secs_f64(),
        grown / 1024
    );
    assert!(grown < GROWTH, "grown by {grown} bytes");

    // It counts on.
    let client = client(Version::Http1);
    let call = Call::get("/direct/flood").header("x-client", "the last one");
    for _ in 0..5 {
        call.send(&client, &fixture)
            .await
            .expect(200, None, "within the quota");
    }
    let over = call.send(&client, &fixture).await;
    over.expect(429, Some("limit_exceeded"), "beyond the quota");
    fixture.assert_sound("a million keys");
}

fn told(answer: &Answer) -> (Option<&str>, Option<&str>, Option<&str>) {
    (
        answer.header("ratelimit-policy"),
        answer.header("ratelimit"),
        answer.header("retry-after"),
    )
}

#[tokio::test]
async fn clients_are_told_and_retry_after_is_true() {
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
    let slow = Call::get("/direct/slow").api_key("one");
    let policy = Some("\"slow\";q=3;w=6");
    for left in [2, 1, 0] {
        let answer = slow.send(&client, &fixture).await;
        answer.expect(200, None, "within the quota");
        let state = format!("\"slow\";r={left};t=2");
        assert_eq!(told(&answer), (None, Some(state.as_str()), None));
    }
    let refused = slow.send(&client, &fixture).await;
    refused.expect(429, Some("limit_exceeded"), "beyond the quota");
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    // One is granted every two seconds, the next by two seconds after the first.
    assert!((1..=2).contains(&wait), "{wait}");
    let (state, retry) = (format!("\"slow\";r=0;t={wait}"), wait.to_string());
    assert_eq!(
        told(&refused),
        (policy, Some(state.as_str()), Some(retry.as_str()))
    );
    // Another caller has a count of its own.
    let other = Call::get("/direct/slow")
        .api_key("two")
        .send(&client, &fixture)
        .await;
    other.expect(200, None, "another caller");

    tokio::time::sleep(Duration::from_secs(wait)).await;
    slow.send(&client, &fixture)
        .await
        .expect(200, None, "after Retry-After");
    let again = slow.send(&client, &fixture).await;
    again.expect(429, Some("limit_exceeded"), "one more is granted, not two");

    // Two limits: both are told, the tighter refuses, and the other is not charged. Its count is that of the other rule:
    // a limit is one limit.
    let both = Call::get("/direct/both")
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
        let call = Call::get("/direct/tools").api_key("one").header("x-tool", tool);
        assert_eq!(call.send(&client, &fixture).await.status, status, "tool {tool:?}");
    }
    fixture.assert_sound("told");
}

#[tokio::test]
async fn addresses_are_the_connections() {
    let fixture = start(
        &json!({"address": {"quota": 3, "window": "60s", "key": ["address"]}}),
        &json!([
            rule("open", true, &["address"]),
            rule("gated", false, &["address"])
        ]),
    );
    let addr = fixture.envoy.addr();
    let get = async |from: [u8; 4], path: &str, headers: &str| {
        let mut connection = Connection::open_from(IpAddr::from(from), addr).await;
        let request = format!("GET /direct/{path} HTTP/1.1\r\nhost: a\r\n{headers}\r\n");
        connection.write(request.as_bytes()).await;
        connection.answer().await.unwrap().status
    };
    let (one, two, three) = ([127, 0, 0, 1], [127, 0, 0, 2], [127, 0, 0, 3]);
    for (from, path, headers, status) in [
        (one, "open", "", 200),
        (one, "open", "x-forwarded-for: 203.0.113.1\r\n", 200),
        (one, "open", "x-forwarded-for: 203.0.113.2\r\n", 200),
        // Whatever the client says of itself.
        (one, "open", "x-forwarded-for: 203.0.113.3\r\n", 429),
        (
            one,
            "open",
            "forwarded: for=203.0.113.4\r\nx-real-ip: 203.0.113.4\r\n",
            429,
        ),
        (two, "open", "", 200),
        // Guessing keys is counted, before any key is looked at.
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
    fixture.assert_sound("addresses");
}
