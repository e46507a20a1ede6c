//! Progress of long steps.

use std::io::{IsTerminal, stderr};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How often a long step is reported.
const INTERVAL: Duration = Duration::from_secs(60);

/// Does `work`, which is `what`. Reports once a minute that it continues, unless standard error is a terminal: there the
/// programs that it runs show their own progress.
pub(crate) fn during<T>(what: &str, work: impl FnOnce() -> T) -> T {
    if stderr().is_terminal() {
        return work();
    }
    report_every(INTERVAL, |elapsed| eprintln!("{}", still(what, elapsed)), work)
}

fn still(what: &str, elapsed: Duration) -> String {
    format!("still {what} ({} min)", elapsed.as_secs() / 60)
}

fn report_every<T>(interval: Duration, report: impl Fn(Duration) + Send, work: impl FnOnce() -> T) -> T {
    let (done, wait) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let started = Instant::now();
            while wait.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                report(started.elapsed());
            }
        });
        let result = work();
        drop(done);
        result
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn a_long_step_is_reported_until_it_ends() {
        let reports = AtomicU32::new(0);
        let interval = Duration::from_millis(1);
        let report = |_| {
            reports.fetch_add(1, Ordering::Relaxed);
        };
        let result = report_every(interval, report, || {
            while reports.load(Ordering::Relaxed) < 2 {
                std::thread::sleep(interval);
            }
            7
        });
        assert_eq!(result, 7);
        let reported = reports.load(Ordering::Relaxed);
        std::thread::sleep(interval * 10);
        assert_eq!(reports.load(Ordering::Relaxed), reported, "it ended");
        assert_eq!(
            still("building the filter", Duration::from_secs(150)),
            "still building the filter (2 min)"
        );
    }
}
