//! Repeats a decision and measures each.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use postern_policy::{Policies, Request};

/// The warm-up, for caches and the clock frequency of the processor.
pub(super) const WARM_UP: Duration = Duration::from_millis(500);

/// The interval between progress updates.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// A decision to repeat.
pub(super) struct Benchmark<'a> {
    pub(super) policies: &'a Policies,
    pub(super) name: &'a str,
    pub(super) request: &'a Request,
    pub(super) threads: u16,
}

/// The results of a run.
pub(super) struct Measurements {
    /// The latencies of successful decisions, in nanoseconds.
    times: Histogram<u64>,
    pub(super) elapsed: Duration,
    pub(super) failed: u64,
    pub(super) last_failure: Option<String>,
}

impl Measurements {
    fn new() -> Result<Self> {
        Ok(Self {
            // From 1 ns to 60 s, with three significant digits.
            times: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
            elapsed: Duration::ZERO,
            failed: 0,
            last_failure: None,
        })
    }

    pub(super) fn nanos_at(&self, quantile: f64) -> u64 {
        self.times.value_at_quantile(quantile)
    }

    pub(super) fn decisions(&self) -> u64 {
        self.times.len()
    }

    fn add(&mut self, other: Self) -> Result<()> {
        self.times.add(other.times)?;
        self.failed += other.failed;
        self.last_failure = other.last_failure.or(self.last_failure.take());
        Ok(())
    }
}

impl Benchmark<'_> {
    /// Repeats the decision for `time`, on all threads.
    pub(super) fn run(&self, time: Duration, progress: impl Fn(Duration)) -> Result<Measurements> {
        let started = Instant::now();
        let mut all = Measurements::new()?;
        std::thread::scope(|scope| -> Result<()> {
            let threads: Vec<_> = (0..self.threads)
                .map(|_| scope.spawn(|| self.run_thread(started + time)))
                .collect();
            while started.elapsed() < time {
                progress(started.elapsed());
                std::thread::sleep(PROGRESS_INTERVAL.min(time.saturating_sub(started.elapsed())));
            }
            for thread in threads {
                let Ok(measured) = thread.join() else {
                    bail!("a thread ended without a result");
                };
                all.add(measured?)?;
            }
            Ok(())
        })?;
        all.elapsed = started.elapsed();
        progress(all.elapsed);
        if all.decisions() == 0 {
            bail!("no decision was made: {}", all.last_failure.unwrap_or_default());
        }
        Ok(all)
    }

    fn run_thread(&self, end: Instant) -> Result<Measurements> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start a runtime")?;
        let mut measured = Measurements::new()?;
        runtime.block_on(async {
            loop {
                let began = Instant::now();
                if began >= end {
                    break;
                }
                match self.policies.decide(self.name, self.request).await {
                    Ok(decided) => {
                        let nanos = u64::try_from(decided.duration.as_nanos()).unwrap_or(u64::MAX);
                        measured.times.saturating_record(nanos.max(1));
                    }
                    Err(failure) => {
                        measured.failed += 1;
                        measured.last_failure = Some(failure.to_string());
                    }
                }
            }
        });
        Ok(measured)
    }
}
