use super::*;
use crate::ports::memory::MemoryState;

const NOW: Duration = Duration::from_secs(1_000);
const NAMES: (&str, &str) = ("module", "rule");

fn allowance(value: &[u8]) -> Allowance {
    let change = |action| Change {
        name: "x-a".into(),
        value: value.to_vec(),
        action,
    };
    Allowance {
        request: ACTIONS.map(change).to_vec(),
        remove: vec!["x-b".into()],
        response: vec![change(AppendAction::Append)],
        grant: None,
    }
}

fn grant(ttl: f64) -> Grant {
    Grant::new(ttl, ["method", "header:x-a"].into_iter()).unwrap()
}

#[test]
fn a_decision_is_cached_for_its_time_and_key() {
    let state = MemoryState::default();
    DecisionCache::open(&state, [1; 16]);
    let (key, other) = ([7; 32], [8; 32]);
    let decision = allowance(b"\xff\0 bytes");
    assert_eq!(DecisionCache::get(&state, &key, NOW), None);
    DecisionCache::put(&state, NAMES, &key, NOW, &decision, &grant(500.0));
    let at = |millis| NOW + Duration::from_millis(millis);
    assert_eq!(DecisionCache::get(&state, &key, at(499)), Some(decision));
    assert_eq!(DecisionCache::get(&state, &key, at(500)), None);
    assert_eq!(DecisionCache::get(&state, &other, at(0)), None);
    let mut near = key;
    near[31] ^= 1;
    assert_eq!(
        DecisionCache::get(&state, &near, at(0)),
        None,
        "the whole key is compared"
    );
}

#[test]
fn the_latest_list_of_parts_is_used() {
    let state = MemoryState::default();
    DecisionCache::open(&state, [1; 16]);
    assert_eq!(DecisionCache::parts(&state, "module", "rule"), None);
    for parts in [&["method"][..], &[], &["identity", "path"]] {
        let grant = Grant::new(1.0, parts.iter().copied()).unwrap();
        DecisionCache::put(&state, NAMES, &[0; 32], NOW, &Allowance::default(), &grant);
        assert_eq!(DecisionCache::parts(&state, "module", "rule"), Some(grant.parts));
    }
    assert_eq!(DecisionCache::parts(&state, "module", "other"), None);
}

#[test]
fn large_or_endless_decisions_are_not_cached() {
    let state = MemoryState::default();
    DecisionCache::open(&state, [1; 16]);
    let key = [7; 32];
    DecisionCache::put(&state, NAMES, &key, NOW, &allowance(&[b'x'; 2048]), &grant(500.0));
    assert_eq!(DecisionCache::get(&state, &key, NOW), None);
    DecisionCache::put(
        &state,
        NAMES,
        &key,
        Duration::ZERO,
        &allowance(b"x"),
        &grant(500.0),
    );
    assert_eq!(DecisionCache::get(&state, &key, Duration::ZERO), None);
}

#[test]
fn the_cache_does_not_grow_and_expired_slots_are_reused_first() {
    let state = MemoryState::default();
    DecisionCache::open(&state, [1; 16]);
    // All of these have the same two slots.
    let key = |n: u8| {
        let mut key = [n; 32];
        key[..4].copy_from_slice(&[1, 0, 2, 0]);
        key
    };
    let put = |n, ttl| DecisionCache::put(&state, NAMES, &key(n), NOW, &allowance(&[b'0', n]), &grant(ttl));
    let held = |n, now| DecisionCache::get(&state, &key(n), now).is_some();
    put(1, 500.0);
    put(2, 900.0);
    assert!(held(1, NOW) && held(2, NOW));
    put(3, 700.0);
    assert!(
        !held(1, NOW) && held(2, NOW) && held(3, NOW),
        "the first to expire is evicted"
    );
    put(2, 100.0);
    let later = NOW + Duration::from_millis(200);
    assert!(!held(2, later) && held(3, later), "its own slot, not the other");
    DecisionCache::put(&state, NAMES, &key(4), later, &allowance(b"x"), &grant(50.0));
    assert!(held(3, later) && held(4, later), "the expired one is replaced");
}

#[test]
fn foreign_values_are_not_decisions() {
    let state = MemoryState::default();
    DecisionCache::open(&state, [1; 16]);
    let key = [7; 32];
    let foreign = Slot {
        key: key.to_vec(),
        until: u64::MAX,
        request: vec![CachedChange {
            action: 4,
            ..CachedChange::default()
        }],
        ..Slot::default()
    };
    for bytes in [b"".to_vec(), vec![0xff; 40], foreign.encode_to_vec()] {
        for slot in candidate_slots(&key) {
            state.set(&slot_name(slot), &bytes, None).unwrap();
        }
        assert_eq!(DecisionCache::get(&state, &key, NOW), None);
    }
    DecisionCache::put(&state, NAMES, &key, NOW, &allowance(b"x"), &grant(500.0));
    assert!(DecisionCache::get(&state, &key, NOW).is_some());
}

#[test]
fn an_existing_cache_is_used() {
    let state = MemoryState::default();
    assert_eq!(DecisionCache::open(&state, [1; 16]).seed(), &[1; 16]);
    DecisionCache::put(&state, NAMES, &[7; 32], NOW, &allowance(b"x"), &grant(500.0));
    assert_eq!(DecisionCache::open(&state, [2; 16]).seed(), &[1; 16]);
    assert!(DecisionCache::get(&state, &[7; 32], NOW).is_some());
}
