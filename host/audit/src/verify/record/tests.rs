use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{Event, GENESIS};

fn full() -> Record {
    let mut event = Event::new(Kind::Request, Time::from_micros(1_767_225_600_000_001));
    let text = |text: &str| Some(text.to_owned());
    event.decision = Some(Decision::Denied);
    event.gateway = text("edge-1");
    event.latency_us = Some(812);
    event.method = text("POST");
    event.path = text("/kernel/sign?dry");
    event.policy = text("rbac");
    event.policy_digest = text("sha256:00");
    event.reason = text("role_missing");
    event.request_id = text("3f0c");
    event.rule = text("sign");
    event.signer_id = text("kernel-1");
    event.status = Some(403);
    event.subject = text("ann");
    event.tenant = text("north");
    Record {
        event,
        prev_hash: GENESIS,
        recorded: Time::from_micros(1_767_225_600_000_002),
        seq: 1,
    }
}

fn canonical(record: &Record) -> String {
    serde_json_canonicalizer::to_string(record).unwrap()
}

#[test]
fn simple_records_are_parsed_fast() {
    let mut bare = full();
    bare.event = Event::new(Kind::Host, Time::EPOCH);
    let mut detailed = full();
    for (name, value) in [
        ("a", json!("b")),
        ("c", json!(7)),
        ("d", json!(null)),
        ("é", json!(true)),
    ] {
        detailed.event.detail.insert(name.to_owned(), value);
    }
    for (record, is_fast) in [(full(), true), (bare, true), (detailed.clone(), false)] {
        let payload = canonical(&record);
        assert_eq!(parse_fast(&payload).is_some(), is_fast, "{payload}");
        assert_eq!(parse(payload.as_bytes()), parse_full(&payload));
        assert!(parse(payload.as_bytes()).is_some(), "{payload}");
    }
    detailed.event.detail.remove("é");
    assert!(parse_fast(&canonical(&detailed)).is_some());
}

#[test]
fn invalid_records_are_rejected() {
    let good = canonical(&full());
    let swap = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    for bad in [
        String::new(),
        "{}".to_owned(),
        "null".to_owned(),
        format!("{good} "),
        format!(" {good}"),
        format!("{good}{good}"),
        swap("\"seq\":1", "\"seq\": 1"),
        swap("\"seq\":1", "\"seq\":01"),
        swap("\"seq\":1", "\"seq\":1.0"),
        swap("\"seq\":1", "\"seq\":1e0"),
        swap("\"seq\":1", "\"seq\":-1"),
        swap("\"seq\":1", "\"seq\":\"1\""),
        swap("\"seq\":1,", ""),
        swap("\"seq\":1", "\"seq\":1,\"seq\":1"),
        swap("\"seq\":1", "\"seq\":1,\"sequel\":1"),
        swap("\"status\":403", "\"status\":70000"),
        swap("\"status\":403", "\"status\":null"),
        swap("\"rule\":\"sign\"", "\"rule\":\"\\u0073ign\""),
        swap("\"rule\":\"sign\"", "\"rule\":7"),
        swap("\"kind\":\"request\"", "\"kind\":\"requests\""),
        swap("\"decision\":\"denied\"", "\"decision\":\"Denied\""),
        swap(
            "{\"decision\":\"denied\",",
            "{\"detail\":{},\"decision\":\"denied\",",
        ),
        swap(
            "{\"decision\":\"denied\"",
            "{\"decision\":\"denied\",\"detail\":{}",
        ),
        swap(
            "{\"decision\":\"denied\"",
            "{\"decision\":\"denied\",\"detail\":{\"b\":1,\"a\":1}",
        ),
        swap(
            "{\"decision\":\"denied\"",
            "{\"decision\":\"denied\",\"detail\":{\"a\":1,\"a\":1}",
        ),
        swap(
            "{\"decision\":\"denied\"",
            "{\"decision\":\"denied\",\"detail\":{\"a\":1,}",
        ),
        swap("00.000002Z", "00.00000200Z"),
        swap("00.000002Z", "60.000002Z"),
        swap("00.000002Z", "00.000002+00:00"),
        swap("-01-01T", "-13-01T"),
    ] {
        assert_eq!(parse(bad.as_bytes()), None, "{bad}");
    }
    assert_eq!(parse(b"\xff"), None);
}

#[test]
fn other_valid_records_are_parsed_by_the_full_parser() {
    for value in [
        json!([1, 2]),
        json!({"b": {"c": []}}),
        json!(-1),
        json!(0.1),
        json!(1e300),
        json!(2_u64.pow(60)),
        json!("a\"\\\n\u{1f600}"),
    ] {
        let mut record = full();
        record.event.detail.insert("x".to_owned(), value);
        record.event.subject = Some("zoë \"the\" \t".to_owned());
        let payload = canonical(&record);
        assert_eq!(parse_fast(&payload), None);
        assert_eq!(
            parse(payload.as_bytes()).map(|fields| fields.seq),
            Some(1),
            "{payload}"
        );
    }
}

proptest! {
    /// The fast parser accepts nothing that the full one rejects, and returns the same fields.
    #[test]
    fn the_fast_parser_is_never_lenient(place in 0_usize..600, byte in prop::sample::select(&b"\"\\,:{}0123456789.eEZTaz_- \x00"[..]), insert in any::<bool>()) {
        let mut record = full();
        record.event.detail.insert("count".to_owned(), json!(12));
        record.event.detail.insert("name".to_owned(), json!("x"));
        let mut payload = canonical(&record).into_bytes();
        let place = place % payload.len();
        if insert {
            payload.insert(place, byte);
        } else {
            payload[place] = byte;
        }
        let payload = String::from_utf8(payload).unwrap();
        if let Some(fields) = parse_fast(&payload) {
            prop_assert_eq!(Some(fields), parse_full(&payload));
        }
    }
}
