//! How many work at the same time, and how many may wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Admits a number of requests at a time, lets a number wait, and refuses the others at once.
#[derive(Debug)]
pub struct AdmissionQueue {
    turns: Semaphore,
    concurrency: u32,
    waiting: AtomicUsize,
    queue: usize,
    /// Whether requests are refused whose turn is not to be expected by their deadline.
    predicts: bool,
    /// How long a turn took of late, in nanoseconds: a mean of which the last one is an eighth.
    took: AtomicU64,
}

/// Why a request is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// As many wait as may, or no turn is to be expected before the deadline.
    #[error("too many requests wait already")]
    Full,
    /// No turn came by the deadline.
    #[error("no turn came in time")]
    Late,
}

/// A request that waits; counted until dropped, so that one that is given up leaves the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A turn, or all of them; it ends when dropped.
#[derive(Debug)]
pub struct Turn {
    queue: Arc<AdmissionQueue>,
    permits: u32,
    began: Instant,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let last = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Of turns that end at the same time, one may be lost: it is a mean.
        let mean = self.queue.took.load(Ordering::Relaxed);
        self.queue
            .took
            .store(mean - mean / 8 + last / 8, Ordering::Relaxed);
        self.queue
            .turns
            .add_permits(usize::try_from(self.permits).unwrap_or(usize::MAX));
    }
}

impl AdmissionQueue {
    /// Admits `concurrency` requests at a time, and lets `queue` wait for their turn until their deadline.
    #[must_use]
    pub fn new(concurrency: usize, queue: usize) -> Arc<Self> {
        Self::with(concurrency, queue, false)
    }

    /// As [`AdmissionQueue::new`], and refuses a request at once as long as no turn is to be expected before its deadline.
    #[must_use]
    pub fn predicting(concurrency: usize, queue: usize) -> Arc<Self> {
        Self::with(concurrency, queue, true)
    }

    fn with(concurrency: usize, queue: usize, predicts: bool) -> Arc<Self> {
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let concurrency = u32::try_from(concurrency).unwrap_or(u32::MAX).clamp(1, most);
        Arc::new(Self {
            turns: Semaphore::new(usize::try_from(concurrency).unwrap_or(Semaphore::MAX_PERMITS)),
            concurrency,
            waiting: AtomicUsize::new(0),
            queue,
            predicts,
            took: AtomicU64::new(0),
        })
    }

    /// Waits for a turn, in the order of arrival.
    ///
    /// # Errors
    /// [`NotAdmitted::Full`] at once, [`NotAdmitted::Late`] at the deadline.
    pub async fn enter(self: &Arc<Self>, deadline: Instant) -> Result<Turn, NotAdmitted> {
        if let Ok(permit) = self.turns.try_acquire() {
            permit.forget();
            return Ok(self.turn(1));
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.queue || self.predicts && Instant::now() + self.wait(before) >= deadline {
            return Err(NotAdmitted::Full);
        }
        self.acquire(1, deadline).await
    }

    /// Waits until nobody has a turn, and takes them all.
    ///
    /// # Errors
    /// [`NotAdmitted::Late`] at the deadline.
    pub async fn enter_alone(self: &Arc<Self>, deadline: Instant) -> Result<Turn, NotAdmitted> {
        self.acquire(self.concurrency, deadline).await
    }

    /// How many have a turn.
    #[must_use]
    pub fn active(&self) -> usize {
        usize::try_from(self.concurrency)
            .unwrap_or(usize::MAX)
            .saturating_sub(self.turns.available_permits())
    }

    async fn acquire(self: &Arc<Self>, permits: u32, deadline: Instant) -> Result<Turn, NotAdmitted> {
        match tokio::time::timeout_at(deadline.into(), self.turns.acquire_many(permits)).await {
            Ok(Ok(permit)) => {
                permit.forget();
                Ok(self.turn(permits))
            }
            Ok(Err(_)) | Err(_) => Err(NotAdmitted::Late),
        }
    }

    /// How long a request waits with so many before it.
    fn wait(&self, before: usize) -> Duration {
        let took = Duration::from_nanos(self.took.load(Ordering::Relaxed));
        let concurrency = usize::try_from(self.concurrency).unwrap_or(usize::MAX);
        let turns = u32::try_from(before / concurrency).unwrap_or(u32::MAX);
        // Those who have a turn now have had a part of it already: of theirs, nothing is counted.
        took.saturating_mul(turns)
    }

    fn turn(self: &Arc<Self>, permits: u32) -> Turn {
        Turn {
            queue: Arc::clone(self),
            permits,
            began: Instant::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn past_the_queue_a_request_is_refused_at_once_and_in_it_at_the_deadline() {
        for queue in [AdmissionQueue::new(1, 1), AdmissionQueue::predicting(1, 1)] {
            let soon = || Instant::now() + Duration::from_millis(40);
            let turn = queue.enter(soon()).await.unwrap();
            let waiter = queue.enter(soon());
            tokio::pin!(waiter);
            let early = tokio::time::timeout(Duration::from_millis(1), &mut waiter).await;
            assert!(early.is_err(), "it waits");
            let started = Instant::now();
            assert_eq!(queue.enter(soon()).await.err(), Some(NotAdmitted::Full));
            assert!(started.elapsed() < Duration::from_millis(30), "at once");
            assert_eq!(waiter.await.err(), Some(NotAdmitted::Late), "at its deadline");
            assert_eq!(queue.waiting.load(Ordering::Relaxed), 0);
            drop(turn);
            assert!(queue.enter(soon()).await.is_ok());
        }
    }

    #[tokio::test]
    async fn a_request_whose_turn_cannot_come_in_time_is_refused_at_once() {
        let queue = AdmissionQueue::predicting(1, 1000);
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
        assert_eq!(queue.enter(in_ms(50)).await.err(), Some(NotAdmitted::Full));
        assert!(started.elapsed() < Duration::from_millis(30), "at once");
    }

    #[tokio::test]
    async fn whoever_enters_alone_waits_for_all_and_keeps_the_others_out() {
        let queue = AdmissionQueue::new(2, 8);
        let soon = || Instant::now() + Duration::from_millis(20);
        let turn = queue.enter(soon()).await.unwrap();
        assert_eq!(queue.active(), 1);
        assert_eq!(queue.enter_alone(soon()).await.err(), Some(NotAdmitted::Late));
        drop(turn);
        let alone = queue.enter_alone(soon()).await.unwrap();
        assert_eq!(queue.active(), 2);
        assert_eq!(queue.enter(soon()).await.err(), Some(NotAdmitted::Late));
        drop(alone);
        assert!(queue.enter(soon()).await.is_ok());
    }
}
