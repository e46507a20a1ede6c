//! A log that a host writes to while it is verified.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postern_audit::read::Reader;
use postern_audit::verify::verify;
use postern_audit::{CheckpointSigner, Event, Kind, Log, Metrics, Settings, Signed, Signing, Store, Time};

use crate::support::{ALL, ORIGIN, found, key, replayed, signed};

struct Kernel;

impl CheckpointSigner for Kernel {
    fn sign<'a>(&'a self, body: &'a [u8]) -> Signing<'a> {
        let signed = Signed {
            signer_id: "kernel".to_owned(),
            signature: *key(1).sk.sign(body, None),
            public_key: *key(1).pk,
        };
        Box::pin(async { Ok(signed) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_whole_at_any_moment() {
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
            }
        }
    });
    let reader = Reader::open(&format!("sqlite:{}", path.display()), 2)
        .await
        .unwrap();
    let kept = || {
        let file = std::fs::read(&outside).unwrap_or_default();
        signed().outside(file.as_slice()).unwrap()
    };
    let mut last = 0;
    for _ in 0..20 {
        let report = verify(&reader, kept(), 2, |_| {}).await.unwrap();
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
    let report = verify(&reader, kept(), 2, |_| {}).await.unwrap();
    assert_eq!((found(&report), report.uncovered()), (None, 0), "{report:?}");
    assert!(report.kept_outside > 1 && report.size > last, "{report:?}");
}
