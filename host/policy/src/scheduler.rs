//! Whose module runs next.
//!
//! A runtime lets tasks run in the order in which they became ready, so that an entry with sixty-four modules that spin
//! has sixty-four turns to another's one. Here turns go to entries: as many modules run at once as there are cores, and
//! when one stops, because it is done, waits, or has had its time, the entry that had the least time for its weight is
//! next (start-time fair queueing). One poll of a decision is one turn; the engine's epochs end it after a tick.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// A turn of a module that computes: about what an epoch lets it have.
const LONG_SLOT: Duration = Duration::from_micros(500);

/// Hands out turns.
#[derive(Debug)]
pub(crate) struct Scheduler(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Turns that nobody has. None, while anyone waits.
    free_slots: usize,
    /// The share, in nanoseconds, of whoever had the last turn when it began: who was idle starts there.
    virtual_clock: u64,
    flows: BTreeMap<u64, FlowState>,
    /// Lanes in which someone waits, by the share they had.
    order: BTreeSet<(u64, u64)>,
    /// Tickets whose turn it is.
    granted: BTreeSet<u64>,
    next: u64,
}

/// A lane's share so far, and who waits in it.
#[derive(Debug, Default)]
struct FlowState {
    virtual_time: u64,
    tickets: VecDeque<(u64, Waker)>,
}

/// The turns of one entry.
#[derive(Debug)]
pub(crate) struct Flow {
    scheduler: Arc<Scheduler>,
    id: u64,
    weight: u32,
}

impl Scheduler {
    /// So many turns at once.
    pub(crate) fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            free_slots: slots.max(1),
            virtual_clock: 0,
            flows: BTreeMap::new(),
            order: BTreeSet::new(),
            granted: BTreeSet::new(),
            next: 0,
        })))
    }

    /// A lane that gets `weight` times what one of weight 1 gets.
    pub(crate) fn flow(self: &Arc<Self>, weight: u32) -> Flow {
        let mut state = self.state();
        let id = state.next_id();
        state.flows.insert(id, FlowState::default());
        Flow {
            scheduler: Arc::clone(self),
            id,
            weight: weight.max(1),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A turn for a lane, if one is free; else a ticket.
    fn acquire(&mut self, flow: u64, waker: &Waker) -> Option<u64> {
        let (virtual_clock, ticket) = (self.virtual_clock, self.next + 1);
        let flow_state = self.flows.get_mut(&flow)?;
        if flow_state.tickets.is_empty() {
            flow_state.virtual_time = flow_state.virtual_time.max(virtual_clock);
        }
        let virtual_time = flow_state.virtual_time;
        if self.free_slots > 0 {
            self.free_slots -= 1;
            self.virtual_clock = virtual_clock.max(virtual_time);
            return None;
        }
        flow_state.tickets.push_back((ticket, waker.clone()));
        self.next = ticket;
        self.order.insert((virtual_time, flow));
        Some(ticket)
    }

    /// Whether it is a ticket's turn; else its owner waits on.
    fn take_granted(&mut self, flow: u64, ticket: u64, waker: &Waker) -> bool {
        if self.granted.remove(&ticket) {
            return true;
        }
        let flow_state = self.flows.get_mut(&flow);
        let waiting =
            flow_state.and_then(|flow_state| flow_state.tickets.iter_mut().find(|(id, _)| *id == ticket));
        if let Some((_, old)) = waiting {
            old.clone_from(waker);
        }
        false
    }

    /// A lane's turn ends after so long; the next one's begins.
    fn release(&mut self, flow: u64, used: u64) -> Option<Waker> {
        if let Some(flow_state) = self.flows.get_mut(&flow) {
            let queued = self.order.remove(&(flow_state.virtual_time, flow));
            flow_state.virtual_time = flow_state.virtual_time.saturating_add(used);
            if queued {
                self.order.insert((flow_state.virtual_time, flow));
            }
        }
        self.grant_next()
    }

    /// Gives a turn to whoever is next.
    fn grant_next(&mut self) -> Option<Waker> {
        let Some((virtual_time, flow)) = self.order.pop_first() else {
            self.free_slots += 1;
            return None;
        };
        self.virtual_clock = self.virtual_clock.max(virtual_time);
        let flow_state = self.flows.get_mut(&flow)?;
        let (ticket, waker) = flow_state.tickets.pop_front()?;
        if !flow_state.tickets.is_empty() {
            self.order.insert((virtual_time, flow));
        }
        self.granted.insert(ticket);
        Some(waker)
    }

    /// A ticket is given back.
    fn cancel(&mut self, flow: u64, ticket: u64) -> Option<Waker> {
        if self.granted.remove(&ticket) {
            return self.grant_next();
        }
        if let Some(flow_state) = self.flows.get_mut(&flow) {
            flow_state.tickets.retain(|(id, _)| *id != ticket);
            if flow_state.tickets.is_empty() {
                self.order.remove(&(flow_state.virtual_time, flow));
            }
        }
        None
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.scheduler.state().flows.remove(&self.id);
    }
}

impl Flow {
    /// Polls a future in turns only.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut waiter = SlotWaiter {
            flow: self,
            ticket: None,
        };
        std::future::poll_fn(move |cx| waiter.poll(work.as_mut(), cx)).await
    }

    fn virtual_time(&self, elapsed: Duration) -> u64 {
        u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX) / u64::from(self.weight)
    }
}

/// The turns of one decision.
struct SlotWaiter<'a> {
    flow: &'a Flow,
    ticket: Option<u64>,
}

impl SlotWaiter<'_> {
    fn poll<T>(&mut self, work: Pin<&mut impl Future<Output = T>>, cx: &mut Context<'_>) -> Poll<T> {
        let (flow, scheduler) = (self.flow.id, &self.flow.scheduler);
        match self.ticket {
            Some(ticket) => {
                if !scheduler.state().take_granted(flow, ticket, cx.waker()) {
                    return Poll::Pending;
                }
                self.ticket = None;
            }
            None => {
                self.ticket = scheduler.state().acquire(flow, cx.waker());
                if self.ticket.is_some() {
                    return Poll::Pending;
                }
            }
        }
        let slot = Slot {
            flow: self.flow,
            started: Instant::now(),
        };
        let polled = work.poll(cx);
        let elapsed = slot.started.elapsed();
        drop(slot);
        if elapsed >= LONG_SLOT {
            // Threads that became runnable meanwhile, to receive a request or to poll whoever has the next turn, would else
            // wait for the end of this one's time slice: some milliseconds.
            std::thread::yield_now();
        }
        polled
    }
}

impl Drop for SlotWaiter<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let next = self.flow.scheduler.state().cancel(self.flow.id, ticket);
            next.inspect(Waker::wake_by_ref);
        }
    }
}

/// A turn; given back when dropped, also by a panic.
struct Slot<'a> {
    flow: &'a Flow,
    started: Instant,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let used = self.flow.virtual_time(self.started.elapsed());
        let next = self.flow.scheduler.state().release(self.flow.id, used);
        // Outside the lock: it may be polled at once.
        next.inspect(Waker::wake_by_ref);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn waker() -> Waker {
        Waker::noop().clone()
    }

    /// What each lane gets of 1,000 turns of the same length, when so many want one all the time.
    fn shares(flows: &[(u32, usize)]) -> Vec<u64> {
        let scheduler = Scheduler::new(1);
        let flows: Vec<_> = flows
            .iter()
            .map(|(weight, wanting)| (scheduler.flow(*weight), *wanting))
            .collect();
        let blocker = scheduler.flow(1);
        assert_eq!(scheduler.state().acquire(blocker.id, &waker()), None);
        let mut owners = HashMap::new();
        for (flow, wanting) in &flows {
            for _ in 0..*wanting {
                let ticket = scheduler.state().acquire(flow.id, &waker()).unwrap();
                owners.insert(ticket, flow.id);
            }
        }
        scheduler.state().release(blocker.id, 0);
        let mut slots = HashMap::<u64, u64>::new();
        for _ in 0..1000 {
            let ticket = *scheduler.state().granted.first().unwrap();
            let owner = owners[&ticket];
            let (flow, _) = flows.iter().find(|(flow, _)| flow.id == owner).unwrap();
            assert!(scheduler.state().take_granted(owner, ticket, &waker()));
            *slots.entry(owner).or_default() += 1;
            // It wants to go on, as a module that spins: it stands in line before it gives its turn back.
            let again = scheduler.state().acquire(owner, &waker()).unwrap();
            owners.insert(again, owner);
            scheduler
                .state()
                .release(owner, flow.virtual_time(Duration::from_millis(2)));
        }
        flows.iter().map(|(flow, _)| slots[&flow.id]).collect()
    }

    #[test]
    fn turns_go_to_entries_by_their_weights_however_many_want_one() {
        assert_eq!(shares(&[(1, 64), (1, 1)]), [500, 500]);
        let [light, heavy] = shares(&[(1, 64), (3, 1)])[..] else {
            panic!("two")
        };
        assert!(
            (249..=251).contains(&light) && (749..=751).contains(&heavy),
            "{light} {heavy}"
        );
    }

    #[test]
    fn who_was_idle_is_next_and_has_saved_nothing() {
        let scheduler = Scheduler::new(1);
        let (busy, idle) = (scheduler.flow(1), scheduler.flow(1));
        assert_eq!(scheduler.state().acquire(busy.id, &waker()), None);
        for _ in 0..100 {
            let ticket = scheduler.state().acquire(busy.id, &waker()).unwrap();
            scheduler.state().release(busy.id, 1000);
            assert!(scheduler.state().take_granted(busy.id, ticket, &waker()));
        }
        let more = scheduler.state().acquire(busy.id, &waker()).unwrap();
        let waiting = scheduler.state().acquire(idle.id, &waker()).unwrap();
        scheduler.state().release(busy.id, 1000);
        assert!(scheduler.state().take_granted(idle.id, waiting, &waker()), "next");
        let waiting = scheduler.state().acquire(idle.id, &waker()).unwrap();
        scheduler.state().release(idle.id, 5000);
        assert!(
            scheduler.state().take_granted(busy.id, more, &waker()),
            "one after the other"
        );
        scheduler.state().release(busy.id, 1);
        assert!(scheduler.state().take_granted(idle.id, waiting, &waker()));
        scheduler.state().release(idle.id, 1);
        assert_eq!(scheduler.state().free_slots, 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_turn_is_lost_by_those_who_leave() {
        let scheduler = Scheduler::new(2);
        let flows: Vec<_> = (1..=3).map(|weight| Arc::new(scheduler.flow(weight))).collect();
        let mut tasks = Vec::new();
        for i in 0..300 {
            let flow = Arc::clone(&flows[i % 3]);
            tasks.push(tokio::spawn(async move {
                let work = flow.run(async {
                    for _ in 0..i % 7 {
                        tokio::task::yield_now().await;
                    }
                    if i % 5 == 0 {
                        std::future::pending::<()>().await;
                    }
                    assert!(i % 11 != 0, "a panic gives its turn back");
                });
                let _ = tokio::time::timeout(Duration::from_millis(20), work).await;
            }));
        }
        for task in tasks {
            let _ = task.await;
        }
        let state = scheduler.state();
        assert_eq!(
            (state.free_slots, state.order.len(), state.granted.len()),
            (2, 0, 0)
        );
    }
}
