use proptest::prelude::*;

use super::*;
use crate::ports::memory::{ManualClock, MemoryState};
use crate::ports::{Clock as _, Observation, Observer, PureRust};

struct Silent;

impl Observer for Silent {
    fn observe(&self, _: &Observation<'_>) {}
}

struct Fixture {
    clock: ManualClock,
    state: MemoryState,
    nonces: NonceStore,
}

const NOW: u64 = 1_767_225_600;

impl Fixture {
    fn new() -> Self {
        Self {
            clock: ManualClock::at(Duration::from_secs(NOW)),
            state: MemoryState::default(),
            nonces: NonceStore::new([1; 16]),
        }
    }

    fn now(&self) -> u64 {
        self.clock.wall().as_secs()
    }

    fn record(&self, used: &NonceUse<'_>) -> Result<(), Reason> {
        let ports = Ports {
            clock: &self.clock,
            state: &self.state,
            verifier: &PureRust,
            observer: &Silent,
        };
        self.nonces.record(used, &ports)
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }
}

fn used(key_id: &'static str, nonce: &str, timestamp: u64, max_skew: u64) -> NonceUse<'static> {
    NonceUse {
        entry: "signatures/bots",
        key_id,
        nonce: nonce.to_owned().leak(),
        timestamp,
        max_skew: Duration::from_secs(max_skew),
        capacity: 1_024,
    }
}

#[test]
fn a_nonce_is_accepted_once_while_its_timestamp_is_valid() {
    let fixture = Fixture::new();
    // From a clock that is ahead: valid for twice the skew.
    let first = used("k", "n1", NOW + 300, 300);
    assert_eq!(fixture.record(&first), Ok(()));
    assert_eq!(fixture.record(&first), Err(Reason::SignatureReplayed));
    assert_eq!(fixture.record(&used("k", "n2", NOW, 300)), Ok(()));
    fixture.advance(600);
    assert_eq!(fixture.record(&first), Err(Reason::SignatureReplayed));
    assert_eq!(
        fixture.record(&used("k", "n2", fixture.now(), 300)),
        Err(Reason::SignatureReplayed),
        "stored while there is space"
    );
}

#[test]
fn a_key_that_fills_its_table_is_refused_without_affecting_others() {
    let fixture = Fixture::new();
    assert_eq!(fixture.record(&used("victim", "n", NOW, 300)), Ok(()));
    let mut full = 0;
    // Far more than all buckets together have slots.
    for n in 0..40_000 {
        match fixture.record(&used("flood", &format!("n{n}"), NOW, 300)) {
            Ok(()) => {}
            Err(reason) => {
                assert_eq!(reason, Reason::ReplayMemoryFull);
                full += 1;
            }
        }
    }
    assert!(full > 40_000 / 3, "{full} refused");
    assert_eq!(
        fixture.record(&used("victim", "n", NOW, 300)),
        Err(Reason::SignatureReplayed)
    );
    assert_eq!(fixture.record(&used("victim", "other", NOW, 300)), Ok(()));
    // There is space again once the timestamps are too old.
    fixture.advance(301);
    assert_eq!(
        fixture.record(&used("flood", "later", fixture.now(), 300)),
        Ok(())
    );
}

#[test]
fn a_larger_skew_does_not_allow_replays() {
    let fixture = Fixture::new();
    let nonces: Vec<String> = (0..2_000).map(|n| format!("n{n}")).collect();
    let accepted: Vec<_> = nonces
        .iter()
        .filter(|nonce| fixture.record(&used("k", nonce, NOW, 10)).is_ok())
        .collect();
    assert!(!accepted.is_empty());
    fixture.advance(60);
    // New nonces, for which the old ones are dropped.
    for n in 0..2_000 {
        let _ = fixture.record(&used("k", &format!("later{n}"), fixture.now(), 10));
    }
    for nonce in accepted {
        assert!(
            fixture.record(&used("k", nonce, NOW, 3_600)).is_err(),
            "{nonce} was accepted a second time"
        );
    }
}

proptest! {
    /// No request is accepted twice, whatever the clock does and however the skew changes.
    #[test]
    fn no_request_is_accepted_twice(
        steps in proptest::collection::vec((0u8..30, 0u64..200, 0u64..100, 1u64..100), 1..300),
    ) {
        let state = MemoryState::default();
        let nonces = NonceStore::new([1; 16]);
        let mut accepted = std::collections::BTreeSet::new();
        for (nonce, now, offset, max_skew) in steps {
            let clock = ManualClock::at(Duration::from_secs(NOW + now));
            let timestamp = NOW + now + 50 - offset;
            if (NOW + now).abs_diff(timestamp) > max_skew {
                continue;
            }
            let ports = Ports { clock: &clock, state: &state, verifier: &PureRust, observer: &Silent };
            let name = format!("n{nonce}");
            let used = NonceUse {
                entry: "e", key_id: "k", nonce: &name, timestamp,
                max_skew: Duration::from_secs(max_skew), capacity: 1,
            };
            if nonces.record(&used, &ports).is_ok() {
                prop_assert!(accepted.insert((nonce, timestamp)), "{nonce} of {timestamp} was accepted twice");
            }
        }
    }
}
