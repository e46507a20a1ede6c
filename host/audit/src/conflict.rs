//! One id names one event. An event that was sent twice, because its acknowledgement got lost, stands in the log once; but
//! another event under an id that is taken is no repetition: acknowledging it would say that it is on record.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use crate::queue::Job;
use crate::{Event, Receipt, Record};

/// An event that is in the log already.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) receipt: Receipt,
    pub(crate) payload: String,
}

/// A job that is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// Which job of the batch.
    pub(crate) job: usize,
    /// Which event of the job.
    pub(crate) at: usize,
    /// The id that is taken.
    pub(crate) id: Uuid,
}

/// The jobs in which an event has the id of another one: in the log, in the same job, or in one that came before.
pub(crate) fn conflicts(batch: &VecDeque<Job>, known: &HashMap<Uuid, Known>) -> Vec<Conflict> {
    let mut taken: HashMap<Uuid, &Event> = HashMap::new();
    let mut found = Vec::new();
    for (job, items) in batch.iter().map(|job| &job.items).enumerate() {
        let mut own: HashMap<Uuid, &Event> = HashMap::new();
        let other = items.iter().position(|item| {
            let event = &item.event;
            let id = event.id;
            let before = own.get(&id).or_else(|| taken.get(&id)).copied();
            own.entry(id).or_insert(event);
            before.is_some_and(|before| !is_same(before, event))
                || known.get(&id).is_some_and(|known| !is_of(&known.payload, event))
        });
        match other.and_then(|at| Some((at, items.get(at)?.event.id))) {
            Some((at, id)) => found.push(Conflict { job, at, id }),
            None => taken.extend(own),
        }
    }
    found
}

fn is_same(one: &Event, other: &Event) -> bool {
    one == other || canonical(one).is_some_and(|one| canonical(other) == Some(one))
}

/// Whether a payload in the log is this event's. One that cannot be read is for the verifier to complain of.
fn is_of(payload: &str, event: &Event) -> bool {
    serde_json::from_str::<Record>(payload).is_ok_and(|record| is_same(&record.event, event))
}

/// Numbers in `detail` may come back otherwise than they were told: `1.0` as `1`.
fn canonical(event: &Event) -> Option<String> {
    serde_json_canonicalizer::to_string(event).ok()
}
