//! Limits how many requests run at a time, and how many wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Admits a number of requests at a time, queues a number, and refuses all others at once.
#[derive(Debug)]
pub struct AdmissionQueue {
    semaphore: Semaphore,
    concurrency: u32,
    waiting: AtomicUsize,
    queue: usize,
    /// Whether requests are refused that are not expected to be admitted by their deadline.
    predictive: bool,
    /// Moving average of how long permits are held, in nanoseconds; the latest has a weight of one eighth.
    mean_nanos: AtomicU64,
}

/// Why a request is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// The queue is full, or no permit is expected before the deadline.
    #[error("the queue is full")]
    Full,
    /// No permit was released by the deadline.
    #[error("no permit was released in time")]
    Timeout,
}

/// A waiting request; counted until dropped, so that an abandoned one leaves the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The permission to run, released when dropped.
#[derive(Debug)]
pub struct AdmissionPermit {
    queue: Arc<AdmissionQueue>,
    permits: u32,
    started: Instant,
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        let last = u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // Of permits released at the same time, one may be lost: it is an average.
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
    /// Admits `concurrency` requests at a time, and queues `queue` more until their deadline.
    #[must_use]
    pub fn new(concurrency: usize, queue: usize) -> Arc<Self> {
        Self::with(concurrency, queue, false)
    }

    /// As [`AdmissionQueue::new`], but refuses a request at once if no permit is expected before its deadline.
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

    /// Waits for a permit, in the order of arrival.
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

    /// Waits until no permit is held, and takes all of them.
    ///
    /// # Errors
    /// [`NotAdmitted::Timeout`] at the deadline.
    pub async fn enter_exclusively(
        self: &Arc<Self>,
        deadline: Instant,
    ) -> Result<AdmissionPermit, NotAdmitted> {
        self.acquire(self.concurrency, deadline).await
    }

    /// The number of held permits.
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

    /// How long a request waits behind this many others.
    fn expected_wait(&self, ahead: usize) -> Duration {
        let mean = Duration::from_nanos(self.mean_nanos.load(Ordering::Relaxed));
        let concurrency = usize::try_from(self.concurrency).unwrap_or(usize::MAX);
        let rounds = u32::try_from(ahead / concurrency).unwrap_or(u32::MAX);
        // The requests that run now are partly done: their remaining time is not counted.
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
        // Each request takes 5 ms: the fifth in the queue may be admitted within 50 ms, the five hundredth cannot.
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
    async fn entering_alone_waits_for_all_others_and_keeps_new_ones_out() {
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
