//! Appends events to the chain. Pure: reads neither a clock nor a store.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use serde::Serialize;
use uuid::Uuid;

use crate::{Entry, Event, Hash, Head, Receipt, Time};

/// [`crate::Record`] without owning the event.
#[derive(Serialize)]
struct RecordRef<'a> {
    #[serde(flatten)]
    event: &'a Event,
    prev_hash: Hash,
    recorded: Time,
    seq: u64,
}

/// Events appended to a head, and the receipts for their callers.
#[derive(Debug)]
pub(crate) struct LinkedBatch {
    /// The entries to write, in order.
    pub(crate) entries: Vec<Entry>,
    /// The receipt of each event, in call order; `None` if it has no canonical form.
    pub(crate) receipts: Vec<Option<Receipt>>,
    /// The head after the entries are written.
    pub(crate) head: Head,
}

/// Appends events to a head. An event that is in `existing`, or earlier in the same call, is not written again and gets
/// the receipt it has.
pub(crate) fn link<'a>(
    mut head: Head,
    now: Time,
    events: impl ExactSizeIterator<Item = &'a Event>,
    mut existing: HashMap<Uuid, Receipt>,
) -> LinkedBatch {
    let recorded = now.max(head.recorded);
    let mut entries = Vec::with_capacity(events.len());
    let mut receipts = Vec::with_capacity(events.len());
    existing.reserve(events.len());
    for event in events {
        let slot = match existing.entry(event.id) {
            Slot::Occupied(slot) => {
                receipts.push(Some(*slot.get()));
                continue;
            }
            Slot::Vacant(slot) => slot,
        };
        let record = RecordRef {
            event,
            prev_hash: head.hash,
            recorded,
            seq: head.size + 1,
        };
        let Ok(payload) = serde_json_canonicalizer::to_string(&record) else {
            receipts.push(None);
            continue;
        };
        head = Head {
            size: record.seq,
            hash: Hash::of(payload.as_bytes()),
            recorded,
        };
        let receipt = Receipt {
            seq: head.size,
            hash: head.hash,
        };
        receipts.push(Some(*slot.insert(receipt)));
        entries.push(Entry {
            seq: head.size,
            id: event.id,
            payload,
            hash: head.hash,
        });
    }
    LinkedBatch {
        entries,
        receipts,
        head,
    }
}

#[cfg(test)]
mod tests;
