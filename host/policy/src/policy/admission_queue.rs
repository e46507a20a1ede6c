//! How many decide at once, and how many may wait.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::Failure;

/// Lets so many in at a time, and so many wait; turns the others away at once.
#[derive(Debug)]
pub(super) struct AdmissionQueue {
    turns: Semaphore,
    concurrency: usize,
    waiting: AtomicUsize,
    queue: usize,
    /// How long a turn took of late, in nanoseconds: a mean of which the last one is an eighth.
    took: AtomicU64,
}

/// One who waits; counted until dropped, so that a request that is given up leaves the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A turn; it ends when dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
    began: Instant,
    took: &'a AtomicU64,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let last = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Of turns that end at the same time, one may be lost: it is a mean.
        let mean = self.took.load(Ordering::Relaxed);
        self.took.store(mean - mean / 8 + last / 8, Ordering::Relaxed);
    }
}

impl AdmissionQueue {
    pub(super) fn new(concurrency: usize, queue: usize) -> Self {
        let concurrency = concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            turns: Semaphore::new(concurrency),
            concurrency,
            waiting: AtomicUsize::new(0),
            queue,
            took: AtomicU64::new(0),
        }
    }

    /// Waits for a turn, in the order of arrival.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] at once, if the queue is full, or as long as no turn is to be expected before the
    /// deadline; at the deadline, if none came.
    pub(super) async fn enter(&self, deadline: Instant) -> Result<Turn<'_>, Failure> {
        if let Ok(permit) = self.turns.try_acquire() {
            return Ok(self.turn(permit));
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.queue || Instant::now() + self.wait(before) >= deadline {
            return Err(Failure::Overloaded);
        }
        match tokio::time::timeout_at(deadline.into(), self.turns.acquire()).await {
            Ok(Ok(permit)) => Ok(self.turn(permit)),
            Ok(Err(_)) | Err(_) => Err(Failure::Overloaded),
        }
    }

    /// How long one waits with so many before.
    fn wait(&self, before: usize) -> Duration {
        let took = Duration::from_nanos(self.took.load(Ordering::Relaxed));
        let turns = u32::try_from(before / self.concurrency).unwrap_or(u32::MAX);
        // Those who have a turn now have had a part of it already: of theirs, nothing is counted.
        took.saturating_mul(turns)
    }

    fn turn<'a>(&'a self, permit: SemaphorePermit<'a>) -> Turn<'a> {
        Turn {
            _permit: permit,
            began: Instant::now(),
            took: &self.took,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn past_the_queue_one_is_turned_away_at_once_and_in_it_at_the_deadline() {
        let queue = AdmissionQueue::new(1, 1);
        let soon = || Instant::now() + Duration::from_millis(40);
        let turn = queue.enter(soon()).await.unwrap();
        let waiter = queue.enter(soon());
        tokio::pin!(waiter);
        let early = tokio::time::timeout(Duration::from_millis(1), &mut waiter).await;
        assert!(early.is_err(), "it waits");
        let started = Instant::now();
        assert_eq!(queue.enter(soon()).await.err(), Some(Failure::Overloaded));
        assert!(started.elapsed() < Duration::from_millis(30), "at once");
        assert_eq!(waiter.await.err(), Some(Failure::Overloaded), "at its deadline");
        assert_eq!(queue.waiting.load(Ordering::Relaxed), 0);
        drop(turn);
        assert!(queue.enter(soon()).await.is_ok());
    }

    #[tokio::test]
    async fn whose_turn_cannot_come_in_time_is_turned_away_at_once() {
        let queue = AdmissionQueue::new(1, 1000);
        let in_ms = |ms| Instant::now() + Duration::from_millis(ms);
        for _ in 0..40 {
            let turn = queue.enter(in_ms(1000)).await.unwrap();
            std::thread::sleep(Duration::from_millis(5));
            drop(turn);
        }
        let _turn = queue.enter(in_ms(1000)).await.unwrap();
        // Each turn takes 5 ms: the fifth in line may get one within 50, the five hundredth cannot.
        let waiters: Vec<_> = (0..5).map(|_| Box::pin(queue.enter(in_ms(50)))).collect();
        let mut waiters = waiters;
        for waiter in &mut waiters {
            assert!(
                tokio::time::timeout(Duration::ZERO, waiter).await.is_err(),
                "it waits"
            );
        }
        queue.waiting.fetch_add(495, Ordering::Relaxed);
        let started = Instant::now();
        assert_eq!(queue.enter(in_ms(50)).await.err(), Some(Failure::Overloaded));
        assert!(started.elapsed() < Duration::from_millis(30), "at once");
    }
}
