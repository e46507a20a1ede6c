//! Verifying a log while a host writes to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use postern_audit::read::Reader;
use postern_audit::verify::verify;
use postern_audit::{
    CheckpointSignature, CheckpointSigner, Clock, Decision, Event, Hash, Kind, Log, ManifestSignature,
    Metrics, Settings, SignFuture, Store, Time,
};

use super::support::{ALL, ORIGIN, found, key, replayed, signed};

struct Kernel;

impl CheckpointSigner for Kernel {
    fn sign<'a>(&'a self, body: &'a [u8]) -> SignFuture<'a> {
        let signature = CheckpointSignature {
            signer_id: "kernel".to_owned(),
            signature: *key(1).sk.sign(body, None),
            public_key: *key(1).pk,
        };
        Box::pin(async { Ok(signature) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_intact_at_any_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.sqlite");
    let outside = folder.path().join("checkpoints");
    let mut settings = Settings::new(Store::Sqlite(path.clone()), "host-1", ORIGIN);
    settings.checkpoints.every = Duration::from_millis(5);
    settings.checkpoints.file = Some(outside.clone());
    let log = Log::open(settings, Arc::new(Kernel), Metrics::default())
        .await
        .unwrap();
    log.append(Event::new(Kind::Host, Time::EPOCH)).await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (log, stop) = (log.clone(), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::Acquire) {
                let events = (0..100).map(|_| Event::new(Kind::Request, Time::EPOCH)).collect();
                log.append_all(events).await.unwrap();
                // Slower than verification, which otherwise takes longer each time.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let reader = Reader::open(&format!("sqlite:{}", path.display()), 2)
        .await
        .unwrap();
    let external = || {
        let file = std::fs::read(&outside).unwrap_or_default();
        signed().checkpoint_file(file.as_slice()).unwrap()
    };
    let mut last = 0;
    for _ in 0..20 {
        let report = verify(&reader, external(), 2, |_| {}).await.unwrap();
        assert_eq!(found(&report), None, "{report:?}");
        assert!(report.size >= last);
        last = report.size;
        let mut out = Vec::new();
        postern_audit::export::export(&reader, ALL, &mut out, Time::EPOCH, |_| {})
            .await
            .unwrap();
        let (_, report) = replayed(&out, signed()).unwrap();
        assert_eq!(found(&report), None, "{report:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Release);
    writer.await.unwrap();
    log.close().await;
    let report = verify(&reader, external(), 2, |_| {}).await.unwrap();
    assert_eq!((found(&report), report.uncovered()), (None, 0), "{report:?}");
    assert!(report.kept_outside > 1 && report.size > last, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_intact_although_the_clock_was_set_back() {
    const MINUTE: u64 = 60_000_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.sqlite");
    let now = Arc::new(AtomicU64::new(1_800_000_000_000_000));
    let at = Arc::clone(&now);
    let clock = Clock::new(move || Time::from_micros(at.load(Ordering::Acquire)));
    let mut settings = Settings::new(Store::Sqlite(path.clone()), "host-1", ORIGIN);
    settings.checkpoints.every = Duration::from_millis(100);
    let log = Log::open_with_clock(settings, Arc::new(Kernel), Metrics::default(), clock)
        .await
        .unwrap();
    let covered = async |size| {
        for _ in 0..1000 {
            if log.state().checkpoint.is_some_and(|made| made.size >= size) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no checkpoint over {size} events");
    };
    // A checkpoint is made some time after the events it covers, and the clock is set back after that.
    log.append(Event::new(Kind::Host, Time::EPOCH)).await.unwrap();
    covered(1).await;
    now.fetch_add(10 * MINUTE, Ordering::AcqRel);
    log.append(Event::new(Kind::Host, Time::EPOCH)).await.unwrap();
    covered(2).await;
    for back in [0, 6 * MINUTE, 60 * MINUTE] {
        now.fetch_sub(back, Ordering::AcqRel);
        let signed_at = Time::from_micros(now.load(Ordering::Acquire));
        // The second time, the clock is set between the signature and the event.
        let time = Time::from_micros(signed_at.micros() + back);
        let manifest_hash = Hash::of(&back.to_be_bytes());
        let signature = ManifestSignature {
            manifest_hash,
            signature: *key(1).sk.sign(manifest_hash.0, None),
            signer_id: "kernel".to_owned(),
            signed_at,
        };
        let mut event = Event::new(Kind::ManifestSignature, time);
        event.decision = Some(Decision::Allowed);
        event.signer_id = Some("kernel".to_owned());
        event
            .detail
            .insert("manifest_hash".to_owned(), manifest_hash.to_string().into());
        let receipt = log.record_manifest(signature, event).await.unwrap();
        covered(receipt.seq).await;
    }
    log.close().await;
    let reader = Reader::open(&format!("sqlite:{}", path.display()), 2)
        .await
        .unwrap();
    let report = verify(&reader, signed(), 2, |_| {}).await.unwrap();
    assert_eq!((found(&report), report.uncovered()), (None, 0), "{report:?}");
    assert_eq!((report.manifests, report.remarked), (3, 2), "{report:?}");
}

/// The second checkpoint is made right after its events, but the first long after its own.
#[tokio::test(flavor = "multi_thread")]
async fn no_checkpoint_is_older_than_the_one_before() {
    const MINUTE: u64 = 60_000_000;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.sqlite");
    let start = 1_800_000_000_000_000;
    for minutes in [60, 0] {
        let now = Arc::new(AtomicU64::new(start));
        let at = Arc::clone(&now);
        let clock = Clock::new(move || Time::from_micros(at.load(Ordering::Acquire)));
        let settings = Settings::new(Store::Sqlite(path.clone()), "host-1", ORIGIN);
        let log = Log::open_with_clock(settings, Arc::new(Kernel), Metrics::default(), clock)
            .await
            .unwrap();
        log.append(Event::new(Kind::Host, Time::EPOCH)).await.unwrap();
        now.fetch_add(minutes * MINUTE, Ordering::AcqRel);
        log.close().await;
    }
    let reader = Reader::open(&format!("sqlite:{}", path.display()), 2)
        .await
        .unwrap();
    let report = verify(&reader, signed(), 2, |_| {}).await.unwrap();
    assert_eq!((found(&report), report.checkpoints), (None, 2), "{report:?}");
}
