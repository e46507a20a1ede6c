//! How many work at the same time, and how many may wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Admits a number of requests at a time, lets a number wait, and refuses the others at once.
#[derive(Debug)]
pub struct AdmissionQueue {
    semaphore: Semaphore,
    concurrency: u32,
    waiting: AtomicUsize,
    queue: usize,
    /// Whether requests are refused whose turn is not to be expected by their deadline.
    predictive: bool,
    /// How long a turn took of late, in nanoseconds: a mean of which the last one is an eighth.
    mean_nanos: AtomicU64,
}

/// Why a request is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// As many wait as may, or no turn is to be expected before the deadline.
    #[error("too many requests wait already")]
    Full,
    /// No turn came by the deadline.
    #[error("no turn came in time")]
    Timeout,
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
pub struct AdmissionPermit {
    queue: Arc<AdmissionQueue>,
    permits: u32,
    started: Instant,
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        let last = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Of turns that end at the same time, one may be lost: it is a mean.
        let mean = self.queue.mean_nanos.load(Ordering::Relaxed);
        self.queue
            .mean_nanos
            .store(mean - mean / 8 + last / 8, Ordering::Relaxed);
        self.queue
            .semaphore
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
    pub fn predictive(concurrency: usize, queue: usize) -> Arc<Self> {
        Self::with(concurrency, queue, true)
    }

    fn with(concurrency: usize, queue: usize, predictive: bool) -> Arc<Self> {
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let concurrency = u32::try_from(concurrency).unwrap_or(u32::MAX).clamp(1, most);
        Arc::new(Self {
            semaphore: Semaphore::new(usize::try_from(concurrency).unwrap_or(Semaphore::MAX_PERMITS)),
            concurrency,
            waiting: AtomicUsize::new(0),
            queue,
            predictive,
            mean_nanos: AtomicU64::new(0),
        })
    }

    /// Waits for a turn, in the order of arrival.
    ///
    /// # Errors
    /// [`NotAdmitted::Full`] at once, [`NotAdmitted::Timeout`] at the deadline.
    pub async fn enter(self: &Arc<Self>, deadline: Instant) -> Result<AdmissionPermit, NotAdmitted> {
        if let Ok(permit) = self.semaphore.try_acquire() {
            permit.forget();
            return Ok(self.permit(1));
        }
        let ahead = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if ahead >= self.queue || self.predictive && Instant::now() + self.expected_wait(ahead) >= deadline {
            return Err(NotAdmitted::Full);
        }
        self.acquire(1, deadline).await
    }

    /// Waits until nobody has a turn, and takes them all.
    ///
    /// # Errors
    /// [`NotAdmitted::Timeout`] at the deadline.
    pub async fn enter_exclusively(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<AdmissionPermit, NotAdmitted> {
        self.acquire(self.concurrency, deadline).await
    }

    /// How many have a turn.
    #[must_use]
    pub fn active(&self) -> usize {
        usize::try_from(self.concurrency)
            .unwrap_or(usize::MAX)
            .saturating_sub(self.semaphore.available_permits())
    }

    async fn acquire(
        self: &Arc<Self>,
        permits: u32,
        deadline: Instant,
    ) -> Result<AdmissionPermit, NotAdmitted> {
        match tokio::time::timeout_at(deadline.into(), self.semaphore.acquire_many(permits)).await {
            Ok(Ok(permit)) => {
                permit.forget();
                Ok(self.permit(permits))
            }
            Ok(Err(_)) | Err(_) => Err(NotAdmitted::Timeout),
        }
    }

    /// How long a request waits with so many before it.
    fn expected_wait(&self, ahead: usize) -> Duration {
        let mean = Duration::from_nanos(self.mean_nanos.load(Ordering::Relaxed));
        let concurrency = usize::try_from(self.concurrency).unwrap_or(usize::MAX);
        let rounds = u32::try_from(ahead / concurrency).unwrap_or(u32::MAX);
        // Those who have a turn now have had a part of it already: of theirs, nothing is counted.
        mean.saturating_mul(rounds)
    }

    fn permit(self: &Arc<Self>, permits: u32) -> AdmissionPermit {
        AdmissionPermit {
            queue: Arc::clone(self),
            permits,
            started: Instant::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn past_the_queue_a_request_is_refused_at_once_and_in_it_at_the_deadline() {
        for queue in [AdmissionQueue::new(1, 1), AdmissionQueue::predictive(1, 1)] {
            let soon = || Instant::now() + Duration::from_millis(40);
            let permit = queue.enter(soon()).await.unwrap();
            let waiter = queue.enter(soon());
            tokio::pin!(waiter);
            let early = tokio::time::timeout(Duration::from_millis(1), &mut waiter).await;
            assert!(early.is_err(), "it waits");
            let started = Instant::now();
            assert_eq!(queue.enter(soon()).await.err(), Some(NotAdmitted::Full));
            assert!(started.elapsed() < Duration::from_millis(30), "at once");
            assert_eq!(waiter.await.err(), Some(NotAdmitted::Timeout), "at its deadline");
            assert_eq!(queue.waiting.load(Ordering::Relaxed), 0);
            drop(permit);
            assert!(queue.enter(soon()).await.is_ok());
        }
    }

    #[tokio::test]
    async fn a_request_whose_turn_cannot_come_in_time_is_refused_at_once() {
        let queue = AdmissionQueue::predictive(1, 1000);
        let in_ms = |ms| Instant::now() + Duration::from_millis(ms);
        for _ in 0..40 {
            let permit = queue.enter(in_ms(1000)).await.unwrap();
            std::thread::sleep(Duration::from_millis(5));
            drop(permit);
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
        let permit = queue.enter(soon()).await.unwrap();
        assert_eq!(queue.active(), 1);
        assert_eq!(
            queue.enter_exclusively(soon()).await.err(),
            Some(NotAdmitted::Timeout)
        );
        drop(permit);
        let exclusive = queue.enter_exclusively(soon()).await.unwrap();
        assert_eq!(queue.active(), 2);
        assert_eq!(queue.enter(soon()).await.err(), Some(NotAdmitted::Timeout));
        drop(exclusive);
        assert!(queue.enter(soon()).await.is_ok());
    }
}
