//! How many decide at once, and how many may wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::Failure;

/// Lets so many in at a time, and so many wait; turns the others away at once.
#[derive(Debug)]
pub(super) struct Turnstile {
    turns: Semaphore,
    waiting: AtomicUsize,
    queue: usize,
}

/// One who waits; counted until dropped, so that a request that is given up leaves the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Turnstile {
    pub(super) fn new(concurrency: usize, queue: usize) -> Self {
        Self {
            turns: Semaphore::new(concurrency.clamp(1, Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
            queue,
        }
    }

    /// Waits for a turn, in the order of arrival.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] if the queue is full, or no turn came before the deadline.
    pub(super) async fn enter(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Ok(turn);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.queue {
            return Err(Failure::Overloaded);
        }
        match tokio::time::timeout_at(deadline.into(), self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(Failure::Overloaded),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn past_the_queue_one_is_turned_away_at_once_and_in_it_at_the_deadline() {
        let turnstile = Turnstile::new(1, 1);
        let soon = || Instant::now() + Duration::from_millis(40);
        let turn = turnstile.enter(soon()).await.unwrap();
        let waiter = turnstile.enter(soon());
        tokio::pin!(waiter);
        let early = tokio::time::timeout(Duration::from_millis(1), &mut waiter).await;
        assert!(early.is_err(), "it waits");
        let started = Instant::now();
        assert_eq!(turnstile.enter(soon()).await.err(), Some(Failure::Overloaded));
        assert!(started.elapsed() < Duration::from_millis(30), "at once");
        assert_eq!(waiter.await.err(), Some(Failure::Overloaded), "at its deadline");
        assert_eq!(turnstile.waiting.load(Ordering::Relaxed), 0);
        drop(turn);
        assert!(turnstile.enter(soon()).await.is_ok());
    }
}
