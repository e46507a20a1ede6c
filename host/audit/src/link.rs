//! Events become links of the chain. Pure: nothing here reads a clock or a store.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use serde::Serialize;
use uuid::Uuid;

use crate::{Entry, Event, Hash, Head, Receipt, Time};

/// [`crate::Record`] without owning the event.
#[derive(Serialize)]
struct Link<'a> {
    #[serde(flatten)]
    event: &'a Event,
    prev_hash: Hash,
    recorded: Time,
    seq: u64,
}

/// What is to be written, and what is told once it is.
#[derive(Debug)]
pub(crate) struct Links {
    /// New entries, in their order.
    pub(crate) entries: Vec<Entry>,
    /// The place of each event, in the order they came; `None` if it has no canonical form.
    pub(crate) receipts: Vec<Option<Receipt>>,
    /// The head once the entries are written.
    pub(crate) head: Head,
}

/// Puts events behind a head. One that is `known`, or that came before in the same call, is not written again and
/// gets the place it has.
pub(crate) fn link<'a>(
    mut head: Head,
    now: Time,
    events: impl ExactSizeIterator<Item = &'a Event>,
    mut known: HashMap<Uuid, Receipt>,
) -> Links {
    let recorded = now.max(head.recorded);
    let mut entries = Vec::with_capacity(events.len());
    let mut receipts = Vec::with_capacity(events.len());
    known.reserve(events.len());
    for event in events {
        let slot = match known.entry(event.id) {
            Slot::Occupied(there) => {
                receipts.push(Some(*there.get()));
                continue;
            }
            Slot::Vacant(slot) => slot,
        };
        let link = Link {
            event,
            prev_hash: head.hash,
            recorded,
            seq: head.size + 1,
        };
        let Ok(payload) = serde_json_canonicalizer::to_string(&link) else {
            receipts.push(None);
            continue;
        };
        head = Head {
            size: link.seq,
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
    Links {
        entries,
        receipts,
        head,
    }
}

#[cfg(test)]
mod tests;
