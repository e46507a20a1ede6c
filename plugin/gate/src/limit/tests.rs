use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use proptest::prelude::*;

use super::limiter::BUCKETS;
use super::*;
use crate::id::LimitId;
use crate::ports::memory::{ManualClock, MemoryState};
use crate::ports::{Clock as _, Conflict, Observation, Observer, Ports, PureRust, SharedState, Version};

/// The decision of a limit on one request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Admitted { remaining: u32 },
    Exceeded { wait: Duration },
    Unavailable,
}

#[derive(Default)]
struct Evictions(Cell<u32>);

impl Observer for Evictions {
    fn observe(&self, event: &Observation<'_>) {
        if matches!(event, Observation::Evicted) {
            self.0.set(self.0.get() + 1);
        }
    }
}

struct Fixture<S> {
    clock: ManualClock,
    state: S,
    evictions: Evictions,
}

impl<S: SharedState> Fixture<S> {
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
            observer: &self.evictions,
        }
    }
}

fn limit(quota: u32, window: Duration, burst: Option<u32>) -> Rc<Limit> {
    let key = vec![KeyPart::Subject];
    Rc::new(Limit::new(LimitId::new(0), "l".into(), key, quota, window, burst, 131_072).unwrap())
}

fn limiter(limit: &Rc<Limit>) -> Limiter {
    Limiter::new(std::slice::from_ref(limit), [1; 16])
}

fn check_parts<S: SharedState>(
    limiter: &Limiter,
    limit: &Rc<Limit>,
    parts: &[&str],
    fixture: &Fixture<S>,
) -> Verdict {
    let now = fixture.clock.monotonic();
    let Ok(checked) = limiter.check(limit, parts.iter(), now, &fixture.ports()) else {
        return Verdict::Unavailable;
    };
    match limiter.charge(checked, &fixture.ports()) {
        Ok(ChargeResult::Done(charge)) => Verdict::Admitted {
            remaining: charge.state(now).remaining,
        },
        Ok(ChargeResult::Exceeded(checked)) => Verdict::Exceeded {
            wait: checked.wait().unwrap(),
        },
        Err(Unavailable) => Verdict::Unavailable,
    }
}

fn check<S: SharedState>(limiter: &Limiter, limit: &Rc<Limit>, key: &str, fixture: &Fixture<S>) -> Verdict {
    check_parts(limiter, limit, &[key], fixture)
}

#[test]
fn a_burst_is_admitted_then_one_request_per_period() {
    let fixture = Fixture::new(MemoryState::default());
    let limit = limit(200, Duration::from_secs(10), None);
    let limiter = limiter(&limit);
    for left in (0..200).rev() {
        assert_eq!(
            check(&limiter, &limit, "a", &fixture),
            Verdict::Admitted { remaining: left }
        );
    }
    assert_eq!(
        check(&limiter, &limit, "a", &fixture),
        Verdict::Exceeded {
            wait: Duration::from_millis(50)
        }
    );
    assert_eq!(
        check(&limiter, &limit, "b", &fixture),
        Verdict::Admitted { remaining: 199 },
        "keys are counted separately"
    );
    fixture.clock.advance(Duration::from_millis(49));
    assert_eq!(
        check(&limiter, &limit, "a", &fixture),
        Verdict::Exceeded {
            wait: Duration::from_millis(1)
        }
    );
    fixture.clock.advance(Duration::from_millis(1));
    assert_eq!(
        check(&limiter, &limit, "a", &fixture),
        Verdict::Admitted { remaining: 0 }
    );
    fixture.clock.advance(Duration::from_secs(3600));
    assert_eq!(
        check(&limiter, &limit, "a", &fixture),
        Verdict::Admitted { remaining: 199 }
    );
}

#[test]
fn workers_share_their_counts() {
    let fixture = Fixture::new(MemoryState::default());
    let limit = limit(10, Duration::from_secs(10), None);
    let workers = [limiter(&limit), limiter(&limit)];
    let admitted = (0..30)
        .filter(|i| {
            matches!(
                check(&workers[i % 2], &limit, "a", &fixture),
                Verdict::Admitted { .. }
            )
        })
        .count();
    assert_eq!(admitted, 10);
}

/// Lets a number of writes conflict, as under contention.
struct ContendedState {
    inner: MemoryState,
    conflicts: Cell<u32>,
}

impl ContendedState {
    fn conflict(&self) -> Result<(), Conflict> {
        if self.conflicts.get() == 0 {
            return Ok(());
        }
        self.conflicts.set(self.conflicts.get() - 1);
        Err(Conflict)
    }
}

impl SharedState for ContendedState {
    fn get(&self, key: &str) -> Option<(Vec<u8>, Version)> {
        self.inner.get(key)
    }

    fn set(&self, key: &str, value: &[u8], expected: Option<Version>) -> Result<(), Conflict> {
        self.conflict()?;
        self.inner.set(key, value, expected)
    }

    fn create(&self, key: &str, value: &[u8]) -> Result<(), Conflict> {
        self.conflict()?;
        self.inner.create(key, value)
    }
}

#[test]
fn a_conflicting_write_is_retried_and_counted_once() {
    let fixture = Fixture::new(ContendedState {
        inner: MemoryState::default(),
        conflicts: Cell::new(0),
    });
    let limit = limit(2, Duration::from_secs(10), None);
    let limiter = limiter(&limit);
    fixture.state.conflicts.set(25);
    assert_eq!(
        check(&limiter, &limit, "a", &fixture),
        Verdict::Admitted { remaining: 1 }
    );
    fixture.state.conflicts.set(u32::MAX);
    assert_eq!(
        check(&limiter, &limit, "a", &fixture),
        Verdict::Unavailable,
        "never admitted without a write"
    );
}

/// A shared state with values that are not buckets.
struct ForeignState;

impl SharedState for ForeignState {
    fn get(&self, _: &str) -> Option<(Vec<u8>, Version)> {
        Some((b"seventeen bytes..".to_vec(), Version::MIN))
    }

    fn set(&self, _: &str, _: &[u8], _: Option<Version>) -> Result<(), Conflict> {
        Ok(())
    }

    fn create(&self, _: &str, _: &[u8]) -> Result<(), Conflict> {
        Err(Conflict)
    }
}

#[test]
fn an_unreadable_table_admits_no_request() {
    let fixture = Fixture::new(ForeignState);
    let limit = limit(2, Duration::from_secs(1), None);
    assert_eq!(
        check(&limiter(&limit), &limit, "a", &fixture),
        Verdict::Unavailable
    );
}

#[test]
fn a_refunded_charge_does_not_count() {
    let fixture = Fixture::new(MemoryState::default());
    let limit = limit(3, Duration::from_secs(3600), None);
    let limiter = limiter(&limit);
    let now = fixture.clock.monotonic();
    let charge = || {
        let checked = limiter
            .check(&limit, ["a"].iter(), now, &fixture.ports())
            .unwrap();
        match limiter.charge(checked, &fixture.ports()) {
            Ok(ChargeResult::Done(charge)) => charge,
            _ => panic!("charged"),
        }
    };
    charge();
    let second = charge();
    let third = charge();
    limiter.refund(&second, &fixture.ports());
    assert_eq!(third.state_before(now).remaining, 1);
    assert_eq!(
        check(&limiter, &limit, "a", &fixture),
        Verdict::Admitted { remaining: 0 }
    );
    assert!(matches!(
        check(&limiter, &limit, "a", &fixture),
        Verdict::Exceeded { .. }
    ));
}

#[test]
fn a_full_bucket_evicts_the_key_closest_to_its_full_quota_and_reports_it() {
    let fixture = Fixture::new(MemoryState::default());
    let limit = limit(1, Duration::from_secs(3600), None);
    let limiter = limiter(&limit);
    let keys = limit.keys.max(BUCKETS) * 4;
    for key in 0..keys {
        assert!(matches!(
            check(&limiter, &limit, &key.to_string(), &fixture),
            Verdict::Admitted { .. }
        ));
    }
    let evicted = fixture.evictions.0.get();
    // Far more active keys than slots: the others had to be evicted.
    assert!(evicted >= keys / 3, "{evicted}");
    fixture.evictions.0.set(0);
    fixture.clock.advance(Duration::from_secs(3601));
    for key in 0..1_000 {
        check(&limiter, &limit, &format!("new {key}"), &fixture);
    }
    assert_eq!(
        fixture.evictions.0.get(),
        0,
        "slots whose time has passed are free"
    );
}

#[test]
fn parts_of_a_key_are_separate() {
    let fixture = Fixture::new(MemoryState::default());
    let limit = limit(1, Duration::from_secs(10), None);
    let limiter = limiter(&limit);
    let check = |parts: &[&str]| check_parts(&limiter, &limit, parts, &fixture);
    assert!(matches!(check(&["ab", "c"]), Verdict::Admitted { .. }));
    assert!(matches!(check(&["a", "bc"]), Verdict::Admitted { .. }));
    assert!(matches!(check(&["ab", "c"]), Verdict::Exceeded { .. }));
}

#[test]
fn errors_name_the_field_that_is_out_of_range() {
    let new = |quota, window, burst| {
        Limit::new(
            LimitId::new(0),
            "l".into(),
            Vec::new(),
            quota,
            window,
            burst,
            131_072,
        )
        .map(drop)
    };
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
fn headers_follow_the_draft() {
    let limit = limit(200, Duration::from_millis(10_500), None);
    assert_eq!(limit.policy(), "\"l\";q=200;w=11");
    let mut header = String::new();
    let state = |remaining, millis| LimitState {
        remaining,
        next: Duration::from_millis(millis),
    };
    limit.report(state(7, 1_000), true).append_state(&mut header);
    limit.report(state(0, 1_001), false).append_state(&mut header);
    assert_eq!(header, "\"l\";r=7;t=1, \"l\";r=0;t=2");
}

#[test]
fn the_state_has_the_remaining_requests_and_the_time_until_the_next() {
    let limit = limit(5, Duration::from_secs(10), None);
    let at = |arrival_ms: u64| {
        let now = Duration::from_secs(1_000).as_nanos() as u64;
        let state = limit.state(Some(now + arrival_ms * 1_000_000), now);
        (state.remaining, state.next.as_millis())
    };
    for (used, expected) in [
        (0, (5, 0)),
        (1, (4, 1)),
        (1_500, (4, 1_500)),
        (2_000, (4, 2_000)),
        (2_001, (3, 1)),
        (9_999, (0, 1_999)),
        (10_000, (0, 2_000)),
    ] {
        assert_eq!(at(used), expected, "{used} ms used");
    }
}

proptest! {
    /// In any interval t, at most burst + t * quota / window requests are admitted.
    #[test]
    fn the_limit_is_never_exceeded(
        quota in 1u32..50,
        window_ms in 10u64..5_000,
        burst in 1u32..60,
        pauses in proptest::collection::vec(0u64..400, 1..200),
    ) {
        let fixture = Fixture::new(MemoryState::default());
        let window = Duration::from_millis(window_ms);
        let limit = limit(quota, window, Some(burst));
        let limiter = limiter(&limit);
        let period = (window / quota).as_nanos();
        let admitted = RefCell::new(Vec::new());
        for pause in pauses {
            fixture.clock.advance(Duration::from_millis(pause));
            let now = fixture.clock.monotonic().as_nanos();
            match check(&limiter, &limit, "a", &fixture) {
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
