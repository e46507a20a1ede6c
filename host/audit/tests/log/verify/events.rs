//! Tampering with events.

use postern_audit::read::Selection;
use postern_audit::verify::{Code, TrustedReferences};
use postern_audit::{Event, Hash, Kind};
use serde_json::json;
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use uuid::Uuid;

use super::support::{Log, Row, at, found, signed};

#[test]
fn an_intact_log_has_no_problems() {
    let report = Log::new(25).verify(signed());
    assert_eq!(found(&report), None, "{report:?}");
    assert_eq!((report.events, report.size, report.checkpoints), (25, 25, 2));
    assert_eq!((report.covered, report.uncovered()), (Some(20), 5));
    let report = Log::new(0).verify(signed());
    assert_eq!((found(&report), report.events), (None, 0));
}

type Tampering = (&'static str, fn(&mut Log), u64, Code);

const TAMPERINGS: &[Tampering] = &[
    (
        "a byte of a payload",
        |log| {
            let row = log.row(7);
            row.payload = row.payload.replace("\"status\":200", "\"status\":201");
        },
        7,
        Code::PayloadChanged,
    ),
    (
        "a byte of the last payload",
        |log| {
            let row = log.row(25);
            row.payload = row.payload.replace("edge-1", "edge-2");
        },
        25,
        Code::PayloadChanged,
    ),
    ("a hash", |log| log.row(7).hash[0] ^= 1, 7, Code::PayloadChanged),
    (
        "a payload and its hash",
        |log| log.edit(7, |record| record.event.status = Some(201)),
        8,
        Code::LinkBroken,
    ),
    (
        "a link",
        |log| log.edit(7, |record| record.prev_hash = Hash::of(b"another")),
        7,
        Code::LinkBroken,
    ),
    (
        "the first link",
        |log| log.edit(1, |record| record.prev_hash = Hash::of(b"another")),
        1,
        Code::LinkBroken,
    ),
    (
        "a row deleted",
        |log| drop(log.rows.remove(6)),
        7,
        Code::EventMissing,
    ),
    (
        "the first deleted",
        |log| drop(log.rows.remove(0)),
        1,
        Code::EventMissing,
    ),
    (
        "many deleted",
        |log| drop(log.rows.drain(6..12)),
        7,
        Code::EventMissing,
    ),
    (
        "a row deleted, the others renumbered",
        |log| {
            log.rows.remove(6);
            log.renumber();
        },
        7,
        Code::SeqDiffers,
    ),
    (
        "a row deleted, the others renumbered in their payloads too",
        |log| {
            log.rows.remove(6);
            for place in 7..=24 {
                log.edit(place, |record| record.seq = place as u64);
            }
        },
        7,
        Code::LinkBroken,
    ),
    (
        "two rows swapped",
        |log| {
            log.rows.swap(6, 7);
            log.renumber();
        },
        7,
        Code::SeqDiffers,
    ),
    (
        "two payloads swapped",
        |log| {
            let payload = log.row(7).payload.clone();
            log.row(7).payload = log.rows[7].payload.clone();
            log.row(8).payload = payload;
        },
        7,
        Code::PayloadChanged,
    ),
    (
        "two events swapped, numbered and hashed",
        |log| {
            log.rows.swap(6, 7);
            for place in [7, 8] {
                log.edit(place, |record| record.seq = place as u64);
            }
        },
        7,
        Code::LinkBroken,
    ),
    (
        "a copy inserted",
        |log| {
            let copy = Row {
                id: Uuid::now_v7().as_bytes().to_vec(),
                ..log.row(7).clone()
            };
            log.rows.insert(7, copy);
            log.renumber();
        },
        8,
        Code::SeqDiffers,
    ),
    (
        "an event inserted with the right link",
        |log| {
            let mut record = log.row(8).record();
            record.event = Event::new(Kind::Host, at(8));
            log.rows.insert(7, Row::of(&record));
            log.renumber();
        },
        9,
        Code::SeqDiffers,
    ),
    (
        "an event inserted, the others renumbered in their payloads",
        |log| {
            let mut record = log.row(8).record();
            record.event = Event::new(Kind::Host, at(8));
            log.rows.insert(7, Row::of(&record));
            for place in 9..=26 {
                log.edit(place, |record| record.seq = place as u64);
            }
        },
        9,
        Code::LinkBroken,
    ),
    (
        "an event before the first",
        |log| log.row(1).seq = -1,
        1,
        Code::EventOutOfOrder,
    ),
    (
        "another id in the row",
        |log| log.row(7).id = Uuid::now_v7().as_bytes().to_vec(),
        7,
        Code::IdDiffers,
    ),
    (
        "a blank in a payload",
        |log| {
            let row = log.row(7);
            row.payload.push(' ');
            row.rehash();
        },
        7,
        Code::PayloadMalformed,
    ),
    (
        "an unknown field",
        |log| {
            let row = log.row(7);
            row.payload = row.payload.replace("\"seq\"", "\"secret\":1,\"seq\"");
            row.rehash();
        },
        7,
        Code::PayloadMalformed,
    ),
    (
        "a field twice",
        |log| {
            let row = log.row(7);
            row.payload = row
                .payload
                .replace("\"subject\":", "\"subject\":\"eve\",\"subject\":");
            row.rehash();
        },
        7,
        Code::PayloadMalformed,
    ),
    (
        "not a record",
        |log| {
            let row = log.row(7);
            row.payload = "{\"id\":\"x\"}".to_owned();
            row.rehash();
        },
        7,
        Code::PayloadMalformed,
    ),
    (
        "the clock rolled back",
        |log| {
            log.notes.clear();
            log.edit(9, |record| record.recorded = at(3));
            log.rewrite_from(9);
        },
        9,
        Code::ClockBack,
    ),
    (
        "a duplicate event, in a table without the constraint",
        |log| {
            log.notes.clear();
            log.schema = log.schema.replace("NOT NULL UNIQUE", "NOT NULL");
            let event = log.row(3).record().event;
            log.edit(12, |record| record.event = event);
            log.rewrite_from(12);
        },
        12,
        Code::EventDuplicate,
    ),
    (
        "the first of two problems is reported",
        |log| {
            log.row(20).hash[3] ^= 1;
            log.rows.remove(4);
        },
        5,
        Code::EventMissing,
    ),
];

#[test]
fn each_tampering_is_detected() {
    for (name, tamper, seq, code) in TAMPERINGS {
        let mut log = Log::new(25);
        tamper(&mut log);
        let report = log.verify(signed());
        assert_eq!(found(&report), Some((*seq, *code)), "{name}: {report:?}");
        // None of this takes signers.
        let report = log.verify(TrustedReferences::none());
        assert_eq!(found(&report), Some((*seq, *code)), "{name}: {report:?}");
    }
}

#[test]
fn malformed_columns_are_detected() {
    let mut log = Log::new(25);
    log.schema = log
        .schema
        .replace(") STRICT;", ");")
        .replace("CHECK (length(id) = 16)", "")
        .replace("CHECK (length(hash) = 32)", "");
    for (row, code) in [
        (
            Row {
                hash: Vec::new(),
                ..log.rows[6].clone()
            },
            Code::PayloadChanged,
        ),
        (
            Row {
                hash: vec![0; 31],
                ..log.rows[6].clone()
            },
            Code::PayloadChanged,
        ),
        (
            Row {
                id: vec![1],
                ..log.rows[6].clone()
            },
            Code::IdDiffers,
        ),
        (
            Row {
                payload: "{}".to_owned(),
                ..log.rows[6].clone()
            },
            Code::PayloadChanged,
        ),
    ] {
        let mut log = log.clone();
        *log.row(7) = row;
        assert_eq!(found(&log.verify(signed())), Some((7, code)));
    }
}

/// More events than one segment has.
#[test]
fn tampering_where_segments_meet_is_detected() {
    type Tampering = (fn(&mut Log), usize, Code);
    const EDGE: usize = 16_384;
    let mut whole = Log::new(EDGE as u64 + 20);
    whole.notes.clear();
    let report = whole.verify(TrustedReferences::none());
    assert_eq!((found(&report), report.events), (None, EDGE as u64 + 20));
    let tamperings: [Tampering; 4] = [
        (|log| drop(log.rows.remove(EDGE - 1)), EDGE, Code::EventMissing),
        (|log| drop(log.rows.remove(EDGE)), EDGE + 1, Code::EventMissing),
        (
            |log| log.edit(EDGE, |record| record.event.status = None),
            EDGE + 1,
            Code::LinkBroken,
        ),
        (
            |log| {
                log.edit(EDGE + 1, |record| record.recorded = at(1));
                log.rewrite_from(EDGE + 1);
            },
            EDGE + 1,
            Code::ClockBack,
        ),
    ];
    for (tamper, seq, code) in tamperings {
        let mut log = whole.clone();
        tamper(&mut log);
        assert_eq!(
            found(&log.verify(TrustedReferences::none())),
            Some((seq as u64, code))
        );
    }
}

#[test]
fn lost_events_and_clock_changes_are_reported() {
    let mut log = Log::new(3);
    let mut lost = Event::new(Kind::Lost, at(4));
    lost.detail.insert("count".to_owned(), json!(17));
    log.push(lost);
    log.push(Event::new(Kind::Clock, at(5)));
    let report = log.verify(signed());
    let remarks: Vec<_> = report
        .remarks
        .iter()
        .map(|remark| (remark.seq, remark.kind, remark.count))
        .collect();
    assert_eq!(remarks, [(4, Kind::Lost, Some(17)), (5, Kind::Clock, None)]);
    assert!(report.is_intact(), "{report:?}");
}

/// A table that was recreated without its constraints can have rows without a valid `seq`.
#[test]
fn rows_without_a_valid_seq_are_counted_and_are_no_events() {
    let stored = Log::new(30).store();
    let url = format!("sqlite://{}", stored.path.display());
    let run = |sql: String| {
        stored.runtime.block_on(async {
            let mut store = SqliteConnection::connect(&url).await.unwrap();
            store.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
            store.close().await.unwrap();
        });
    };
    run(
        "CREATE TABLE copied AS SELECT seq, id, payload, hash FROM audit_events; DROP TABLE audit_events; \
         ALTER TABLE copied RENAME TO audit_events"
            .into(),
    );
    assert_eq!(found(&stored.verify(signed())), None);
    for seq in ["NULL", "'thirty-one'", "1e300", "x'00'"] {
        run(format!(
            "DELETE FROM audit_events WHERE typeof(seq) <> 'integer'; \
             INSERT INTO audit_events VALUES ({seq}, randomblob(16), '{{}}', randomblob(32))"
        ));
        let report = stored.verify(signed());
        assert_eq!(found(&report), Some((0, Code::EventExtra)), "{seq}: {report:?}");
        assert_eq!(report.size, 30, "{seq}");
        let reader = stored.reader();
        let (head, last, selected) = stored.runtime.block_on(async {
            let all = Selection {
                limit: 100,
                ..Selection::default()
            };
            (
                reader.head().await.unwrap(),
                reader.last(2).await.unwrap(),
                reader.select(&all).await.unwrap(),
            )
        });
        assert_eq!(head.size, 30, "{seq}");
        let last: Vec<_> = last.iter().map(|found| found.entry.seq).collect();
        assert_eq!((last, selected.len()), (vec![29, 30], 30), "{seq}");
    }
}
