//! Reading events from a store.

use postern_audit::read::{ReadError, Reader, Selection};
use postern_audit::{Decision, Event, Kind, PostgresUrlError};

use super::support::{Log, at};

#[test]
fn events_are_selected() {
    let mut log = Log::new(30);
    let mut other = Event::new(Kind::Policy, at(31));
    other.tenant = Some("south".to_owned());
    log.push(other);
    let stored = log.store();
    let reader = stored.reader();
    let text = |text: &str| Some(text.to_owned());
    let all = Selection {
        limit: 100,
        ..Selection::default()
    };
    let of = |selection: Selection| -> Vec<u64> {
        let found = stored.runtime.block_on(reader.select(&selection)).unwrap();
        assert!(found.iter().all(|found| found.hash_matches));
        found.iter().map(|found| found.entry.seq).collect()
    };
    assert_eq!(of(all.clone()), (1..=31).collect::<Vec<_>>());
    assert_eq!(
        of(Selection {
            limit: 2,
            ..all.clone()
        }),
        [30, 31]
    );
    assert_eq!(
        of(Selection {
            kind: Some(Kind::Policy),
            ..all.clone()
        }),
        [31]
    );
    assert_eq!(
        of(Selection {
            tenant: text("south"),
            ..all.clone()
        }),
        [31]
    );
    assert_eq!(
        of(Selection {
            request_id: text("request-7"),
            ..all.clone()
        }),
        [7]
    );
    assert_eq!(
        of(Selection {
            rule: text("x' OR 'a' = 'a"),
            ..all.clone()
        }),
        [0; 0]
    );
    let denied = Selection {
        decision: Some(Decision::Denied),
        ..all.clone()
    };
    assert_eq!(
        of(Selection {
            subject: text("ann"),
            from: Some(7),
            to: Some(20),
            ..denied
        }),
        [12, 18]
    );
    assert_eq!(
        of(Selection {
            subject: text("zoë"),
            rule: text("sign"),
            limit: 2,
            ..all
        }),
        [27, 29]
    );
}

#[test]
fn events_are_found_by_time() {
    let stored = Log::new(30).store();
    let reader = stored.reader();
    let since = |time| stored.runtime.block_on(reader.first_since(time)).unwrap();
    assert_eq!(
        (
            since(at(0)),
            since(at(1)),
            since(at(17)),
            since(at(30)),
            since(at(31))
        ),
        (1, 1, 17, 30, 31)
    );
    let (last, head) = stored
        .runtime
        .block_on(async { (reader.last(2).await.unwrap(), reader.head().await.unwrap()) });
    assert_eq!(
        last.iter().map(|found| found.entry.seq).collect::<Vec<_>>(),
        [29, 30]
    );
    assert_eq!((head.size, head.recorded), (30, at(30)));
}

#[test]
fn a_changed_payload_is_marked() {
    let mut log = Log::new(3);
    let row = log.row(2);
    row.payload = row.payload.replace("edge-1", "edge-2");
    let stored = log.store();
    let reader = stored.reader();
    let hash_matches: Vec<_> = stored
        .runtime
        .block_on(reader.last(3))
        .unwrap()
        .iter()
        .map(|found| found.hash_matches)
        .collect();
    assert_eq!(hash_matches, [true, false, true]);
}

#[test]
fn a_store_without_a_log_is_rejected() {
    let stored = Log::new(1).store();
    let empty = stored.path.with_file_name("empty");
    let text = stored.path.with_file_name("text");
    std::fs::write(&empty, "").unwrap();
    std::fs::write(&text, "hello ".repeat(1000)).unwrap();
    let open = |url: String| stored.runtime.block_on(Reader::open(&url, 1)).unwrap_err();
    assert!(matches!(
        open("mysql://user:hunter2@host/x".to_owned()),
        ReadError::InvalidUrl
    ));
    assert!(matches!(
        open("postgres://user:hunter2@host:x/y".to_owned()),
        ReadError::Postgres(PostgresUrlError::Invalid)
    ));
    assert!(matches!(
        open(format!("sqlite:{}-not", stored.path.display())),
        ReadError::FileNotFound(_)
    ));
    assert!(matches!(
        open(format!("sqlite:{}", empty.display())),
        ReadError::NoLog
    ));
    let error = open(format!("sqlite:{}", text.display()));
    assert!(error.to_string().contains("not a database"), "{error}");
    for url in [
        "mysql://user:hunter2@host/x",
        "postgres://user:hunter2@host:x/y",
        "postgres://user:hunter2@127.0.0.1:1/y",
    ] {
        let error = open(url.to_owned());
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    }
}

/// Not even opening writes.
#[test]
fn reading_changes_nothing() {
    let stored = Log::new(30).store();
    let before = std::fs::read(&stored.path).unwrap();
    stored.verify(super::support::signed());
    assert_eq!(std::fs::read(&stored.path).unwrap(), before);
}
