//! The overhead over the proxy's own time: encoding, the HTTP client, verification.

use std::time::{Duration, Instant};

use crate::support::{Behaviour, Kms, RegistryDir};

/// The proxy's time for each signature, similar to an HSM's. Its timer adds up to a millisecond.
const PROXY: Duration = Duration::from_millis(5);
const SIGNATURES: usize = 400;

/// Run with `--nocapture` to see the figures. The bound allows for a busy machine; the documented overhead is 1 ms.
#[tokio::test(flavor = "multi_thread")]
async fn the_overhead_over_the_proxy_is_bounded() {
    let (dir, kms) = (RegistryDir::new(), Kms::start());
    kms.set_behaviour(Behaviour::Delay(PROXY));
    let signing = dir.signing(&kms);
    signing.sign(b"warm").await.unwrap();
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for number in 0..SIGNATURES {
        let began = Instant::now();
        let signed = signing.sign(&number.to_be_bytes()).await.unwrap();
        outside.push(began.elapsed().saturating_sub(kms.last_latency()));
        inside.push(signed.elapsed.saturating_sub(signed.proxy_elapsed));
    }
    for (what, times) in [
        ("over the exchange", &mut inside),
        ("over the proxy's own time", &mut outside),
    ] {
        times.sort();
        let at = |share: usize| times[SIGNATURES * share / 100];
        println!("{what}: p50 {:?}, p95 {:?}, p99 {:?}", at(50), at(95), at(99));
        assert!(at(95) < Duration::from_millis(50), "{what}: {:?}", at(95));
    }
}
