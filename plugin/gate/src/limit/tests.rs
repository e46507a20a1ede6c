use std::cell::RefCell;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ports::memory::{ManualClock, MemoryState};
use crate::ports::{Clock as _, Conflict, Event, Metrics, PureRust, SharedState, Version};

#[derive(Default)]
struct Evictions(Cell<u32>);

impl Metrics for Evictions {
    fn note(&self, event: &Event<'_>) {
        if matches!(event, Event::Evicted) {
            self.0.set(self.0.get() + 1);
        }
    }
}

struct Bed<S> {
    clock: ManualClock,
    state: S,
    evictions: Evictions,
}

impl<S: SharedState> Bed<S> {
    fn new(state: S) -> Self {
        Self {
            clock: ManualClock::at(Duration::from_secs(1_767_225_600)),
            state,
            evictions: Evictions::default(),
        }
    }

    fn ports(&self) -> Ports<'_> {
        Ports {
            clock: &self.clock,
            state: &self.state,
            verifier: &PureRust,
            metrics: &self.evictions,
        }
    }
}

fn limit(quota: u32, window: Duration, burst: Option<u32>) -> Limit {
    Limit::new("l".into(), vec![KeyPart::Subject], quota, window, burst).unwrap()
}

fn check<S: SharedState>(limiter: &Limiter, limit: &Limit, key: &str, bed: &Bed<S>) -> Verdict {
    limiter.check(limit, [key].iter(), &bed.ports())
}

#[test]
fn burst_then_one_at_a_time() {
    let bed = Bed::new(MemoryState::default());
    let limiter = Limiter::open("t", &bed.state, [1; 16]);
    let limit = limit(200, Duration::from_secs(10), None);
    for left in (0..200).rev() {
        assert_eq!(
            check(&limiter, &limit, "a", &bed),
            Verdict::Admitted { remaining: left }
        );
    }
    assert_eq!(
        check(&limiter, &limit, "a", &bed),
        Verdict::Exceeded {
            wait: Duration::from_millis(50)
        }
    );
    assert_eq!(
        check(&limiter, &limit, "b", &bed),
        Verdict::Admitted { remaining: 199 },
        "keys are counted apart"
    );
    bed.clock.advance(Duration::from_millis(49));
    assert_eq!(
        check(&limiter, &limit, "a", &bed),
        Verdict::Exceeded {
            wait: Duration::from_millis(1)
        }
    );
    bed.clock.advance(Duration::from_millis(1));
    assert_eq!(
        check(&limiter, &limit, "a", &bed),
        Verdict::Admitted { remaining: 0 }
    );
    bed.clock.advance(Duration::from_secs(3600));
    assert_eq!(
        check(&limiter, &limit, "a", &bed),
        Verdict::Admitted { remaining: 199 }
    );
}

#[test]
fn two_workers_that_open_the_table_count_together() {
    let bed = Bed::new(MemoryState::default());
    let workers = [
        Limiter::open("t", &bed.state, [1; 16]),
        Limiter::open("t", &bed.state, [2; 16]),
    ];
    let limit = limit(10, Duration::from_secs(10), None);
    let admitted = (0..30)
        .filter(|i| {
            matches!(
                check(&workers[i % 2], &limit, "a", &bed),
                Verdict::Admitted { .. }
            )
        })
        .count();
    assert_eq!(admitted, 10);
}

/// Loses every write to another worker a few times, as under contention.
struct Contended {
    inner: MemoryState,
    losses: Cell<u32>,
}

impl SharedState for Contended {
    fn get(&self, key: &str) -> Option<(Vec<u8>, Version)> {
        self.inner.get(key)
    }

    fn set(&self, key: &str, value: &[u8], expected: Option<Version>) -> Result<(), Conflict> {
        if expected.is_some() && self.losses.get() > 0 {
            self.losses.set(self.losses.get() - 1);
            return Err(Conflict);
        }
        self.inner.set(key, value, expected)
    }
}

#[test]
fn a_lost_write_is_tried_again_and_counted_once() {
    let bed = Bed::new(Contended {
        inner: MemoryState::default(),
        losses: Cell::new(0),
    });
    let limiter = Limiter::open("t", &bed.state, [1; 16]);
    let limit = limit(2, Duration::from_secs(10), None);
    bed.state.losses.set(25);
    assert_eq!(
        check(&limiter, &limit, "a", &bed),
        Verdict::Admitted { remaining: 1 }
    );
    bed.state.losses.set(u32::MAX);
    assert_eq!(
        check(&limiter, &limit, "a", &bed),
        Verdict::Unavailable,
        "never admitted for want of a write"
    );
}

#[test]
fn a_missing_table_admits_nobody() {
    let bed = Bed::new(MemoryState::default());
    let limiter = Limiter::open("t", &bed.state, [1; 16]);
    let elsewhere = Bed::new(MemoryState::default());
    assert_eq!(
        check(&limiter, &limit(2, Duration::from_secs(1), None), "a", &elsewhere),
        Verdict::Unavailable
    );
}

#[test]
fn a_full_bucket_gives_up_the_key_nearest_to_its_whole_quota_and_says_so() {
    let bed = Bed::new(MemoryState::default());
    let limiter = Limiter::open("t", &bed.state, [1; 16]);
    let limit = limit(1, Duration::from_secs(3600), None);
    let keys = table::WAYS as u32 * table::BUCKETS * 2;
    for key in 0..keys {
        assert!(matches!(
            check(&limiter, &limit, &key.to_string(), &bed),
            Verdict::Admitted { .. }
        ));
    }
    let evicted = bed.evictions.0.get();
    // Twice as many live keys as slots: at least half of them had to push another out.
    assert!(evicted >= keys / 2, "{evicted}");
    bed.evictions.0.set(0);
    bed.clock.advance(Duration::from_secs(3601));
    for key in 0..1_000 {
        check(&limiter, &limit, &format!("new {key}"), &bed);
    }
    assert_eq!(bed.evictions.0.get(), 0, "slots whose time has passed are free");
}

#[test]
fn once_means_once() {
    let bed = Bed::new(MemoryState::default());
    let limiter = Limiter::open("t", &bed.state, [1; 16]);
    let window = Duration::from_secs(600);
    let once = |nonce: &str| limiter.once(&["signatures/bots", "bot-1", nonce], window, &bed.ports());
    assert!(matches!(once("n1"), Verdict::Admitted { .. }));
    assert!(matches!(once("n1"), Verdict::Exceeded { .. }));
    assert!(matches!(once("n2"), Verdict::Admitted { .. }));
    bed.clock.advance(window);
    assert!(matches!(once("n1"), Verdict::Admitted { .. }));
}

#[test]
fn parts_of_a_key_cannot_run_into_each_other() {
    let bed = Bed::new(MemoryState::default());
    let limiter = Limiter::open("t", &bed.state, [1; 16]);
    let limit = limit(1, Duration::from_secs(10), None);
    let check = |parts: &[&str]| limiter.check(&limit, parts.iter(), &bed.ports());
    assert!(matches!(check(&["ab", "c"]), Verdict::Admitted { .. }));
    assert!(matches!(check(&["a", "bc"]), Verdict::Admitted { .. }));
    assert!(matches!(check(&["ab", "c"]), Verdict::Exceeded { .. }));
}

#[test]
fn what_is_out_of_range_is_named() {
    let new = |quota, window, burst| Limit::new("l".into(), Vec::new(), quota, window, burst).map(drop);
    assert_eq!(new(0, Duration::from_secs(1), None).unwrap_err().0, "quota");
    assert_eq!(new(1, Duration::from_secs(1), Some(0)).unwrap_err().0, "burst");
    assert_eq!(
        new(1_000_000_000, Duration::from_millis(1), None).unwrap_err().0,
        "window"
    );
    assert_eq!(
        new(1, Duration::from_secs(86_400 * 32), None).unwrap_err().0,
        "window"
    );
    assert_eq!(new(1_000_000_000, Duration::from_secs(1), None), Ok(()));
}

#[test]
fn headers_as_the_draft_has_them() {
    let limit = limit(200, Duration::from_millis(10_500), None);
    assert_eq!(&**limit.policy(), "\"l\";q=200;w=11");
    let mut state = String::new();
    limit
        .report(&Verdict::Admitted { remaining: 7 })
        .append_state(&mut state);
    limit
        .report(&Verdict::Exceeded {
            wait: Duration::from_millis(1_001),
        })
        .append_state(&mut state);
    assert_eq!(state, "\"l\";r=7;t=1, \"l\";r=0;t=2");
}

proptest! {
    /// The promise: in any interval t, at most burst + t * quota / window; and nobody is refused within it who waited.
    #[test]
    fn never_more_than_promised(
        quota in 1u32..50,
        window_ms in 10u64..5_000,
        burst in 1u32..60,
        pauses in proptest::collection::vec(0u64..400, 1..200),
    ) {
        let bed = Bed::new(MemoryState::default());
        let limiter = Limiter::open("t", &bed.state, [1; 16]);
        let window = Duration::from_millis(window_ms);
        let limit = limit(quota, window, Some(burst));
        let period = (window / quota).as_nanos();
        let admitted = RefCell::new(Vec::new());
        for pause in pauses {
            bed.clock.advance(Duration::from_millis(pause));
            let now = bed.clock.monotonic().as_nanos();
            match check(&limiter, &limit, "a", &bed) {
                Verdict::Admitted { .. } => admitted.borrow_mut().push(now),
                Verdict::Exceeded { wait } => prop_assert!(!wait.is_zero() && wait <= window / quota),
                Verdict::Unavailable => prop_assert!(false, "unavailable"),
            }
        }
        let admitted = admitted.into_inner();
        for (i, from) in admitted.iter().enumerate() {
            for (n, to) in admitted[i..].iter().enumerate() {
                prop_assert!((n as u128) < u128::from(burst) + (to - from) / period);
            }
        }
    }
}
