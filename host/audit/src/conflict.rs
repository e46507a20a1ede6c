//! An id identifies one event. An event that is sent again, because its acknowledgement was lost, is in the log once. A
//! different event under an existing id is not a repetition: acknowledging it would claim that it is recorded.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use crate::queue::Job;
use crate::receipt::ExistingEvent;
use crate::{Event, Record};

/// An event whose id belongs to a different event. Its whole job is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The index of the job in the batch.
    pub(crate) job: usize,
    /// The index of the event in the job.
    pub(crate) index: usize,
    pub(crate) id: Uuid,
}

/// Finds the jobs with an event whose id belongs to a different event: in the log, in the same job, or in an earlier job.
pub(crate) fn conflicts(batch: &VecDeque<Job>, existing: &HashMap<Uuid, ExistingEvent>) -> Vec<Conflict> {
    let mut earlier: HashMap<Uuid, &Event> = HashMap::new();
    let mut conflicts = Vec::new();
    for (job, items) in batch.iter().map(|job| &job.items).enumerate() {
        let mut own: HashMap<Uuid, &Event> = HashMap::new();
        let conflict = items.iter().position(|item| {
            let event = &item.event;
            let id = event.id;
            let previous = own.get(&id).or_else(|| earlier.get(&id)).copied();
            own.entry(id).or_insert(event);
            previous.is_some_and(|previous| !is_same(previous, event))
                || existing
                    .get(&id)
                    .is_some_and(|existing| !holds(&existing.payload, event))
        });
        match conflict.and_then(|index| Some((index, items.get(index)?.event.id))) {
            Some((index, id)) => conflicts.push(Conflict { job, index, id }),
            None => earlier.extend(own),
        }
    }
    conflicts
}

fn is_same(a: &Event, b: &Event) -> bool {
    a == b || canonical(a).is_some_and(|a| canonical(b) == Some(a))
}

/// Whether a payload of the log is that of the event. One that cannot be parsed is not; the verifier reports it.
fn holds(payload: &str, event: &Event) -> bool {
    serde_json::from_str::<Record>(payload).is_ok_and(|record| is_same(&record.event, event))
}

/// Numbers in `detail` may be read back in another form than they were sent: `1.0` as `1`.
fn canonical(event: &Event) -> Option<String> {
    serde_json_canonicalizer::to_string(event).ok()
}
