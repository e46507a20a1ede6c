use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{GENESIS, Kind, Record};

/// Values of every kind that a detail may hold.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-(1_i64 << 53)..(1 << 53)).prop_map(Value::from),
        any::<f64>().prop_map(|n| json!(n)),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(".{0,6}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

prop_compose! {
    /// Few ids, so that many come twice.
    fn event()(
        id in 0_u128..40,
        path in proptest::option::of(".{0,20}"),
        subject in proptest::option::of("\\PC{0,8}"),
        detail in proptest::collection::btree_map("\\PC{0,6}", value(), 0..4),
        time in any::<u64>(),
        status in proptest::option::of(any::<u16>()),
    ) -> Event {
        Event {
            id: Uuid::from_u128(id),
            path,
            subject,
            detail: BTreeMap::from_iter(detail),
            status,
            ..Event::new(Kind::Request, Time::from_micros(time))
        }
    }
}

proptest! {
    #[test]
    fn any_events_make_a_chain(batches in vec((vec(event(), 0..12), any::<u32>()), 0..8)) {
        let mut head = Head::EMPTY;
        let mut log: Vec<Entry> = Vec::new();
        let mut written: HashMap<Uuid, (Receipt, Event)> = HashMap::new();
        for (batch, now) in batches {
            let known = batch
                .iter()
                .filter_map(|event| Some((event.id, written.get(&event.id)?.0)))
                .collect();
            let links = link(head, Time::from_micros(now.into()), batch.iter(), known);
            prop_assert_eq!(links.receipts.len(), batch.len());
            for (event, receipt) in batch.iter().zip(&links.receipts) {
                let receipt = receipt.unwrap();
                // The first to bear an id is the one that is kept.
                let (first, _) = written.entry(event.id).or_insert((receipt, event.clone()));
                prop_assert_eq!(*first, receipt);
            }
            head = links.head;
            log.extend(links.entries);
        }

        prop_assert_eq!(head.size, log.len() as u64);
        prop_assert_eq!(log.len(), written.len());
        let (mut previous, mut before) = (GENESIS, Time::EPOCH);
        for (at, entry) in log.iter().enumerate() {
            prop_assert_eq!(entry.seq, at as u64 + 1);
            prop_assert_eq!(entry.hash, Hash::of(entry.payload.as_bytes()));
            let canonical: Value = serde_json::from_str(&entry.payload).unwrap();
            let canonical = serde_json_canonicalizer::to_string(&canonical).unwrap();
            prop_assert_eq!(&canonical, &entry.payload);
            let record: Record = serde_json::from_str(&entry.payload).unwrap();
            prop_assert_eq!((record.seq, record.prev_hash), (entry.seq, previous));
            prop_assert!(record.recorded >= before);
            prop_assert_eq!(record.event.id, entry.id);
            let (receipt, event) = &written[&entry.id];
            prop_assert_eq!((receipt.seq, receipt.hash), (entry.seq, entry.hash));
            prop_assert_eq!(&record.event.path, &event.path);
            prop_assert_eq!(record.event.time, event.time);
            (previous, before) = (entry.hash, record.recorded);
        }
        prop_assert_eq!(previous, head.hash);
    }
}
