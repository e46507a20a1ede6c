//! Requests that wait for keys, and their turns once the wait is over.
//!
//! Envoy carries out what a callback asks for, replies and resumptions, after the callback, and nested: each enters the
//! VM again for its response before the next one begins. Some 300 in one callback exhaust the stack of the VM, which
//! ends it. So a callback acts on [`BATCH`] requests at most; the others have their turn in the ticks that follow.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::exchange::Exchange;
use crate::jwks::Fetched;

/// Requests that one callback acts on.
const BATCH: usize = 32;

/// Requests of one issuer that wait at once in a worker. What a waiting request costs here is small beside what it costs
/// the proxy, whose own bounds on connections and requests come first.
const MAX_WAITERS: usize = 10_000;

/// A request that waits for keys.
pub(crate) struct Waiter {
    /// Since when: keys whose fetch began earlier may lack the one it needs.
    pub(crate) since: Duration,
    pub(crate) deadline: Duration,
    pub(crate) context_id: u32,
    pub(crate) exchange: Weak<RefCell<Exchange>>,
}

/// A request whose wait is over.
pub(crate) struct Ready {
    pub(crate) context_id: u32,
    pub(crate) exchange: Rc<RefCell<Exchange>>,
    /// The keys that came may be older than the request.
    pub(crate) older: bool,
}

/// The requests of one worker that wait for keys, or for their turn.
#[derive(Default)]
pub(crate) struct Waiting {
    by_issuer: HashMap<usize, Vec<Waiter>>,
    ready: VecDeque<(Waiter, bool)>,
}

impl Waiting {
    /// Takes a request in. False if there is no room.
    pub(crate) fn add(&mut self, issuer: usize, waiter: Waiter) -> bool {
        let waiters = self.by_issuer.entry(issuer).or_default();
        let room = waiters.len() < MAX_WAITERS;
        if room {
            waiters.push(waiter);
        }
        room
    }

    /// The wait for an issuer's keys is over, with keys or without.
    pub(crate) fn fetched(&mut self, fetched: &Fetched) {
        let over = self.by_issuer.remove(&fetched.issuer).unwrap_or_default();
        self.ready.extend(over.into_iter().map(|waiter| {
            let older = fetched.begun.is_some_and(|begun| begun < waiter.since);
            (waiter, older)
        }));
    }

    /// Ends the wait of requests that have waited long enough, and forgets those that have gone.
    pub(crate) fn expire(&mut self, now: Duration) {
        for waiters in self.by_issuer.values_mut() {
            waiters.retain(|waiter| waiter.exchange.strong_count() > 0);
            let over = waiters.extract_if(.., |waiter| waiter.deadline <= now);
            self.ready.extend(over.map(|waiter| (waiter, false)));
        }
    }

    /// The requests whose turn it is.
    pub(crate) fn turn(&mut self) -> Vec<Ready> {
        let mut turn = Vec::new();
        while turn.len() < BATCH {
            let Some((waiter, older)) = self.ready.pop_front() else {
                break;
            };
            turn.extend(waiter.exchange.upgrade().map(|exchange| Ready {
                context_id: waiter.context_id,
                exchange,
                older,
            }));
        }
        turn
    }

    /// Whether requests wait for their turn.
    pub(crate) fn is_behind(&self) -> bool {
        !self.ready.is_empty()
    }
}
