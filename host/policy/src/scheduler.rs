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
const LONG: Duration = Duration::from_micros(500);

/// Hands out turns.
#[derive(Debug)]
pub(crate) struct Scheduler(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Turns that nobody has. None, while anyone waits.
    free: usize,
    /// The share, in nanoseconds, of whoever had the last turn when it began: who was idle starts there.
    clock: u64,
    lanes: BTreeMap<u64, Waiting>,
    /// Lanes in which someone waits, by the share they had.
    order: BTreeSet<(u64, u64)>,
    /// Tickets whose turn it is.
    called: BTreeSet<u64>,
    next: u64,
}

/// A lane's share so far, and who waits in it.
#[derive(Debug, Default)]
struct Waiting {
    share: u64,
    tickets: VecDeque<(u64, Waker)>,
}

/// The turns of one entry.
#[derive(Debug)]
pub(crate) struct Lane {
    scheduler: Arc<Scheduler>,
    id: u64,
    weight: u32,
}

impl Scheduler {
    /// So many turns at once.
    pub(crate) fn new(turns: usize) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            free: turns.max(1),
            clock: 0,
            lanes: BTreeMap::new(),
            order: BTreeSet::new(),
            called: BTreeSet::new(),
            next: 0,
        })))
    }

    /// A lane that gets `weight` times what one of weight 1 gets.
    pub(crate) fn lane(self: &Arc<Self>, weight: u32) -> Lane {
        let mut state = self.state();
        let id = state.number();
        state.lanes.insert(id, Waiting::default());
        Lane {
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
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A turn for a lane, if one is free; else a ticket.
    fn begin(&mut self, lane: u64, waker: &Waker) -> Option<u64> {
        let (clock, ticket) = (self.clock, self.next + 1);
        let waiting = self.lanes.get_mut(&lane)?;
        if waiting.tickets.is_empty() {
            waiting.share = waiting.share.max(clock);
        }
        let share = waiting.share;
        if self.free > 0 {
            self.free -= 1;
            self.clock = clock.max(share);
            return None;
        }
        waiting.tickets.push_back((ticket, waker.clone()));
        self.next = ticket;
        self.order.insert((share, lane));
        Some(ticket)
    }

    /// Whether it is a ticket's turn; else its owner waits on.
    fn is_called(&mut self, lane: u64, ticket: u64, waker: &Waker) -> bool {
        if self.called.remove(&ticket) {
            return true;
        }
        let waiting = self.lanes.get_mut(&lane);
        let mine = waiting.and_then(|waiting| waiting.tickets.iter_mut().find(|(id, _)| *id == ticket));
        if let Some((_, old)) = mine {
            old.clone_from(waker);
        }
        false
    }

    /// A lane's turn ends after so long; the next one's begins.
    fn end(&mut self, lane: u64, share: u64) -> Option<Waker> {
        if let Some(waiting) = self.lanes.get_mut(&lane) {
            let queued = self.order.remove(&(waiting.share, lane));
            waiting.share = waiting.share.saturating_add(share);
            if queued {
                self.order.insert((waiting.share, lane));
            }
        }
        self.call()
    }

    /// Gives a turn to whoever is next.
    fn call(&mut self) -> Option<Waker> {
        let Some((share, lane)) = self.order.pop_first() else {
            self.free += 1;
            return None;
        };
        self.clock = self.clock.max(share);
        let waiting = self.lanes.get_mut(&lane)?;
        let (ticket, waker) = waiting.tickets.pop_front()?;
        if !waiting.tickets.is_empty() {
            self.order.insert((share, lane));
        }
        self.called.insert(ticket);
        Some(waker)
    }

    /// A ticket is given back.
    fn leave(&mut self, lane: u64, ticket: u64) -> Option<Waker> {
        if self.called.remove(&ticket) {
            return self.call();
        }
        if let Some(waiting) = self.lanes.get_mut(&lane) {
            waiting.tickets.retain(|(id, _)| *id != ticket);
            if waiting.tickets.is_empty() {
                self.order.remove(&(waiting.share, lane));
            }
        }
        None
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.scheduler.state().lanes.remove(&self.id);
    }
}

impl Lane {
    /// Polls a future in turns only.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut turns = Turns {
            lane: self,
            ticket: None,
        };
        std::future::poll_fn(move |cx| turns.poll(work.as_mut(), cx)).await
    }

    fn share(&self, took: Duration) -> u64 {
        u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / u64::from(self.weight)
    }
}

/// The turns of one decision.
struct Turns<'a> {
    lane: &'a Lane,
    ticket: Option<u64>,
}

impl Turns<'_> {
    fn poll<T>(&mut self, work: Pin<&mut impl Future<Output = T>>, cx: &mut Context<'_>) -> Poll<T> {
        let (lane, scheduler) = (self.lane.id, &self.lane.scheduler);
        match self.ticket {
            Some(ticket) => {
                if !scheduler.state().is_called(lane, ticket, cx.waker()) {
                    return Poll::Pending;
                }
                self.ticket = None;
            }
            None => {
                self.ticket = scheduler.state().begin(lane, cx.waker());
                if self.ticket.is_some() {
                    return Poll::Pending;
                }
            }
        }
        let turn = Turn {
            lane: self.lane,
            began: Instant::now(),
        };
        let polled = work.poll(cx);
        let took = turn.began.elapsed();
        drop(turn);
        if took >= LONG {
            // Threads that became runnable meanwhile, to receive a request or to poll whoever has the next turn, would else
            // wait for the end of this one's time slice: some milliseconds.
            std::thread::yield_now();
        }
        polled
    }
}

impl Drop for Turns<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket {
            let next = self.lane.scheduler.state().leave(self.lane.id, ticket);
            next.inspect(Waker::wake_by_ref);
        }
    }
}

/// A turn; given back when dropped, also by a panic.
struct Turn<'a> {
    lane: &'a Lane,
    began: Instant,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let share = self.lane.share(self.began.elapsed());
        let next = self.lane.scheduler.state().end(self.lane.id, share);
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
    fn shares(lanes: &[(u32, usize)]) -> Vec<u64> {
        let scheduler = Scheduler::new(1);
        let lanes: Vec<_> = lanes
            .iter()
            .map(|(weight, wanting)| (scheduler.lane(*weight), *wanting))
            .collect();
        let blocker = scheduler.lane(1);
        assert_eq!(scheduler.state().begin(blocker.id, &waker()), None);
        let mut owners = HashMap::new();
        for (lane, wanting) in &lanes {
            for _ in 0..*wanting {
                let ticket = scheduler.state().begin(lane.id, &waker()).unwrap();
                owners.insert(ticket, lane.id);
            }
        }
        scheduler.state().end(blocker.id, 0);
        let mut turns = HashMap::<u64, u64>::new();
        for _ in 0..1000 {
            let ticket = *scheduler.state().called.first().unwrap();
            let owner = owners[&ticket];
            let (lane, _) = lanes.iter().find(|(lane, _)| lane.id == owner).unwrap();
            assert!(scheduler.state().is_called(owner, ticket, &waker()));
            *turns.entry(owner).or_default() += 1;
            // It wants to go on, as a module that spins: it stands in line before it gives its turn back.
            let again = scheduler.state().begin(owner, &waker()).unwrap();
            owners.insert(again, owner);
            scheduler.state().end(owner, lane.share(Duration::from_millis(2)));
        }
        lanes.iter().map(|(lane, _)| turns[&lane.id]).collect()
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
        let (busy, idle) = (scheduler.lane(1), scheduler.lane(1));
        assert_eq!(scheduler.state().begin(busy.id, &waker()), None);
        for _ in 0..100 {
            let ticket = scheduler.state().begin(busy.id, &waker()).unwrap();
            scheduler.state().end(busy.id, 1000);
            assert!(scheduler.state().is_called(busy.id, ticket, &waker()));
        }
        let more = scheduler.state().begin(busy.id, &waker()).unwrap();
        let mine = scheduler.state().begin(idle.id, &waker()).unwrap();
        scheduler.state().end(busy.id, 1000);
        assert!(scheduler.state().is_called(idle.id, mine, &waker()), "next");
        let mine = scheduler.state().begin(idle.id, &waker()).unwrap();
        scheduler.state().end(idle.id, 5000);
        assert!(
            scheduler.state().is_called(busy.id, more, &waker()),
            "one after the other"
        );
        scheduler.state().end(busy.id, 1);
        assert!(scheduler.state().is_called(idle.id, mine, &waker()));
        scheduler.state().end(idle.id, 1);
        assert_eq!(scheduler.state().free, 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_turn_is_lost_by_those_who_leave() {
        let scheduler = Scheduler::new(2);
        let lanes: Vec<_> = (1..=3).map(|weight| Arc::new(scheduler.lane(weight))).collect();
        let mut tasks = Vec::new();
        for i in 0..300 {
            let lane = Arc::clone(&lanes[i % 3]);
            tasks.push(tokio::spawn(async move {
                let work = lane.run(async {
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
        assert_eq!((state.free, state.order.len(), state.called.len()), (2, 0, 0));
    }
}
