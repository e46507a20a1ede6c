//! Fair scheduling of CPU time between entries (start-time fair queueing).
//!
//! The async runtime polls tasks in the order in which they become ready, so an entry with 64 spinning modules would get
//! 64 times the CPU time of an entry with one. Here each entry is a flow. There are as many slots as cores, and a
//! decision needs a slot for each poll. A slot is released when the module returns, waits, or is interrupted by the
//! engine's epoch after a tick. It then goes to the waiting flow with the least CPU time in proportion to its weight.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Slot time from which a module counts as CPU-bound; about half an epoch interval.
const LONG_SLOT: Duration = Duration::from_micros(500);

/// Grants slots to flows.
#[derive(Debug)]
pub(crate) struct Scheduler(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Unused slots; 0 while any decision waits.
    free_slots: usize,
    /// Virtual time, in nanoseconds, of the flow that was granted the last slot. An idle flow resumes from here.
    virtual_clock: u64,
    flows: BTreeMap<u64, FlowState>,
    /// Flows with waiting tickets, ordered by virtual time.
    order: BTreeSet<(u64, u64)>,
    /// Tickets that were granted a slot and have not used it yet.
    granted: BTreeSet<u64>,
    last_id: u64,
}

/// A flow's virtual time and waiting tickets.
#[derive(Debug, Default)]
struct FlowState {
    virtual_time: u64,
    tickets: VecDeque<(u64, Waker)>,
}

/// An entry's share of the scheduler.
#[derive(Debug)]
pub(crate) struct Flow {
    scheduler: Arc<Scheduler>,
    id: u64,
    weight: u32,
}

impl Scheduler {
    /// Creates a scheduler with this number of slots, at least one.
    pub(crate) fn new(slots: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            free_slots: slots.max(1),
            virtual_clock: 0,
            flows: BTreeMap::new(),
            order: BTreeSet::new(),
            granted: BTreeSet::new(),
            last_id: 0,
        })))
    }

    /// Adds a flow that gets `weight` times the CPU time of a flow with weight 1 under contention.
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
        self.last_id += 1;
        self.last_id
    }

    /// Takes a free slot, or queues and returns a ticket.
    fn acquire(&mut self, flow: u64, waker: &Waker) -> Option<u64> {
        let (virtual_clock, ticket) = (self.virtual_clock, self.last_id + 1);
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
        self.last_id = ticket;
        self.order.insert((virtual_time, flow));
        Some(ticket)
    }

    /// Whether a ticket was granted a slot, and takes the slot. Otherwise updates the waker.
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

    /// Releases a slot, charges the flow for its use in virtual time, and grants the slot to the next ticket.
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

    /// Grants a slot to the next ticket, if any is waiting.
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

    /// Cancels a ticket.
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
    /// Runs a future, holding a slot during each poll.
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

/// Acquires a slot for each poll of one decision.
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
            // Threads that became runnable meanwhile, to receive a request or to poll the next decision, would otherwise
            // wait some milliseconds for the end of this thread's time slice.
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

/// A slot in use; released when dropped, also by a panic.
struct Slot<'a> {
    flow: &'a Flow,
    started: Instant,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let used = self.flow.virtual_time(self.started.elapsed());
        let next = self.flow.scheduler.state().release(self.flow.id, used);
        // Outside the lock: the woken task may be polled at once.
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

    /// Distribution of 1,000 slots of equal length over flows of a given weight and number of waiting decisions.
    fn shares(flows: &[(u32, usize)]) -> Vec<u64> {
        let scheduler = Scheduler::new(1);
        let flows: Vec<_> = flows
            .iter()
            .map(|(weight, waiting)| (scheduler.flow(*weight), *waiting))
            .collect();
        let blocker = scheduler.flow(1);
        assert_eq!(scheduler.state().acquire(blocker.id, &waker()), None);
        let mut owners = HashMap::new();
        for (flow, waiting) in &flows {
            for _ in 0..*waiting {
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
            // Like a spinning module, it queues again before it releases its slot.
            let again = scheduler.state().acquire(owner, &waker()).unwrap();
            owners.insert(again, owner);
            scheduler
                .state()
                .release(owner, flow.virtual_time(Duration::from_millis(2)));
        }
        flows.iter().map(|(flow, _)| slots[&flow.id]).collect()
    }

    #[test]
    fn slots_are_shared_by_weight_however_many_decisions_wait() {
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
    fn an_idle_flow_goes_next_and_has_no_accumulated_credit() {
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
            "flows alternate"
        );
        scheduler.state().release(busy.id, 1);
        assert!(scheduler.state().take_granted(idle.id, waiting, &waker()));
        scheduler.state().release(idle.id, 1);
        assert_eq!(scheduler.state().free_slots, 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn cancelled_decisions_lose_no_slots() {
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
                    assert!(i % 11 != 0, "a panic releases its slot");
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
