//! Guarantees of the log: order, ids, bounds, lost events, clocks, checkpoints.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use postern_audit::{
    AppendError, Clock, Hash, InvalidEvent, Kind, Log, ManifestSignature, Metrics, Note, Notes, OpenError,
    PostTarget, Time,
};
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use sqlx::{Connection as _, Row as _, SqliteConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::support::{Signer, chain, event, manifest_signature, open, sqlite, until};

#[tokio::test(flavor = "multi_thread")]
async fn events_of_many_callers_make_one_chain() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let log = open(sqlite(&path)).await;
    let callers: Vec<_> = (0..40)
        .map(|caller| {
            let log = log.clone();
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for call in 0..5 {
                    let events: Vec<_> = (0..=call)
                        .map(|n| event(format!("/{caller}/{call}/{n}")))
                        .collect();
                    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
                    let receipts = log.append_all(events).await.unwrap();
                    acknowledged.extend(ids.into_iter().zip(receipts));
                }
                acknowledged
            })
        })
        .collect();
    let mut acknowledged = Vec::new();
    for caller in callers {
        acknowledged.extend(caller.await.unwrap());
    }
    let head = log.state().head;
    log.close().await;
    let rows = chain(&path).await;
    assert_eq!(rows.len(), 40 * 15);
    assert_eq!(head.size, 600);
    for (id, receipt) in acknowledged {
        let at = usize::try_from(receipt.seq).unwrap() - 1;
        assert_eq!(rows[at].id, id);
        if let Some(next) = rows.get(at + 1) {
            assert_eq!(next.text("prev_hash"), receipt.hash.to_string());
        }
    }
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    // Opened again, the log continues where it ended.
    let log = open(sqlite(&path)).await;
    assert_eq!(log.state().head, head);
    assert_eq!(log.append(event("/again")).await.unwrap().seq, 601);
    log.close().await;
    assert_eq!(chain(&path).await.len(), 601);
}

#[tokio::test]
async fn an_event_that_is_sent_again_is_in_the_log_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let log = open(sqlite(&path)).await;
    let (a, b, c) = (event("/a"), event("/b"), event("/c"));
    let first = log.append(a.clone()).await.unwrap();
    let batch = vec![b.clone(), a.clone(), b.clone(), c.clone()];
    let receipts = log.append_all(batch.clone()).await.unwrap();
    assert_eq!(receipts.iter().map(|r| r.seq).collect::<Vec<_>>(), [2, 1, 2, 3]);
    assert_eq!(receipts[1], first);
    assert_eq!(log.append_all(batch.clone()).await.unwrap(), receipts);
    // A large call, half of it in the log already: the lookup uses statements of every size.
    let mut many: Vec<_> = (0..700).map(|n| event(format!("/{n}"))).collect();
    log.append_all(many[..350].to_vec()).await.unwrap();
    many.push(c);
    let receipts = log.append_all(many.clone()).await.unwrap();
    assert_eq!(receipts[700].seq, 3);
    log.close().await;

    let log = open(sqlite(&path)).await;
    assert_eq!(log.append_all(many).await.unwrap(), receipts);
    assert_eq!(log.append_all(Vec::new()).await.unwrap(), []);
    log.close().await;
    assert_eq!(chain(&path).await.len(), 703);
}

#[tokio::test]
async fn an_invalid_event_rejects_the_call() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let log = open(sqlite(&path)).await;
    let error = log.append_all(vec![event("/a"), event("/\0")]).await.unwrap_err();
    let reason = InvalidEvent::Nul { field: "path" };
    assert_eq!(error, AppendError::Invalid { index: 1, reason });
    assert_eq!(error.code(), "audit_invalid");
    log.enqueue(event("/\0"));
    until("the loss is recorded", || log.state().head.size == 1).await;
    log.close().await;
    let rows = chain(&path).await;
    assert_eq!(
        (rows[0].text("kind"), rows[0].payload["detail"]["count"].as_u64()),
        ("lost", Some(1))
    );
}

#[tokio::test]
async fn a_full_buffer_rejects_calls_and_counts_lost_events() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let mut settings = sqlite(&path);
    (settings.buffer, settings.batch) = (20, 10);
    let mut registry = Registry::with_prefix("postern");
    let metrics = Metrics::default();
    metrics.register(&mut registry);
    let log = Log::open(settings, Signer::new(), metrics).await.unwrap();
    assert_eq!(
        log.append_all((0..21).map(|_| event("/")).collect()).await,
        Err(AppendError::BufferFull)
    );
    // On one thread the writer does not run before the test awaits.
    for _ in 0..50 {
        log.enqueue(event("/queued"));
    }
    let state = log.state();
    assert_eq!((state.backlog, state.lost), (20, 30));
    assert_eq!(log.append(event("/required")).await, Err(AppendError::BufferFull));
    until("the loss is recorded", || log.state().head.size == 21).await;
    assert_eq!(log.append(event("/required")).await.unwrap().seq, 22);
    assert_eq!(log.state().backlog, 0);
    let mut out = String::new();
    text::encode(&mut out, &registry).unwrap();
    for line in [
        "postern_audit_events_total{kind=\"request\"} 21",
        "postern_audit_events_total{kind=\"lost\"} 1",
        "postern_audit_events_lost_total 30",
        "postern_audit_backlog_events 0",
        "postern_audit_store_healthy 1",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    log.close().await;
    let rows = chain(&path).await;
    let lost: Vec<_> = rows.iter().filter(|row| row.text("kind") == "lost").collect();
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].payload["detail"]["count"], 30);
    assert_eq!(lost[0].text("gateway"), "host-1");
}

/// The futures must be `Send`.
#[tokio::test]
async fn opening_and_closing_can_be_spawned() {
    let directory = tempfile::tempdir().unwrap();
    let settings = sqlite(&directory.path().join("audit.db"));
    let opening = tokio::spawn(Log::open(settings, Signer::new(), Metrics::default()));
    let log = opening.await.unwrap().unwrap();
    tokio::spawn(log.close()).await.unwrap();
}

#[tokio::test]
async fn closing_writes_the_queue_and_rejects_later_events() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let log = open(sqlite(&path)).await;
    for n in 0..2000 {
        log.enqueue(event(format!("/{n}")));
    }
    let other = log.clone();
    log.close().await;
    let refused = other.append(event("/late")).await.unwrap_err();
    assert_eq!(refused.code(), "audit_unavailable");
    other.close().await;
    assert_eq!(chain(&path).await.len(), 2000);
}

#[tokio::test]
async fn a_clock_that_goes_back_is_recorded_once_and_changes_no_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let now = Arc::new(AtomicU64::new(1_800_000_000_000_000));
    let at = Arc::clone(&now);
    let clock = Clock::new(move || Time::from_micros(at.load(Ordering::Acquire)));
    let log = Log::open_with_clock(sqlite(&path), Signer::new(), Metrics::default(), clock)
        .await
        .unwrap();
    for back in [0, 900_000, 5_000_000, 0, 0] {
        now.fetch_sub(back, Ordering::AcqRel);
        log.append(event("/")).await.unwrap();
    }
    assert_eq!(log.state().clock_steps, 1);
    log.close().await;
    let rows = chain(&path).await;
    let kinds: Vec<_> = rows.iter().map(|row| row.text("kind")).collect();
    assert_eq!(
        kinds,
        ["request", "request", "clock", "request", "request", "request"]
    );
    assert_eq!(rows[2].payload["detail"]["back_us"], 5_000_000);
    assert_eq!(rows[5].text("recorded"), rows[0].text("recorded"));
}

#[tokio::test]
async fn a_manifest_signature_and_its_event_are_written_together() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let log = open(sqlite(&path)).await;
    let (signature, mut manifest_event) = manifest_signature();
    manifest_event.request_id = Some("request-1".into());
    for _ in 0..2 {
        let receipt = log
            .record_manifest(signature.clone(), manifest_event.clone())
            .await
            .unwrap();
        assert_eq!(receipt.seq, 1);
    }
    let bad = ManifestSignature {
        signer_id: "a\0".into(),
        ..signature
    };
    assert_eq!(
        log.record_manifest(bad, manifest_event.clone())
            .await
            .unwrap_err()
            .code(),
        "audit_invalid"
    );
    log.close().await;
    let mut store = SqliteConnection::connect(&format!("sqlite://{}", path.display()))
        .await
        .unwrap();
    let rows = sqlx::query("SELECT * FROM manifest_signatures")
        .fetch_all(&mut store)
        .await
        .unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].get::<uuid::Uuid, _>("id"), manifest_event.id);
    assert_eq!(rows[0].get::<String, _>("subject"), "user:7");
    assert_eq!(rows[0].get::<Vec<u8>, _>("signature"), vec![5; 64]);
}

#[tokio::test]
async fn checkpoints_are_signed_and_written_to_the_store_and_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let outside = directory.path().join("checkpoints");
    let signer = Signer::new();
    let settings = || {
        let mut settings = sqlite(&path);
        settings.checkpoints.every_events = 10;
        settings.checkpoints.every = Duration::from_millis(1500);
        settings.checkpoints.file = Some(outside.clone());
        settings
    };
    let log = Log::open(settings(), signer.clone(), Metrics::default())
        .await
        .unwrap();
    let size = || log.state().checkpoint.map_or(0, |checkpoint| checkpoint.size);
    log.append_all((0..10).map(|_| event("/")).collect())
        .await
        .unwrap();
    until("after ten events", || size() == 10).await;
    log.append(event("/")).await.unwrap();
    until("after some time", || size() == 11).await;

    // A failing signer delays no event.
    signer.broken.store(true, Ordering::Release);
    log.append_all((0..10).map(|_| event("/")).collect())
        .await
        .unwrap();
    until("the failure is counted", || log.state().checkpoint_failures > 0).await;
    log.append(event("/")).await.unwrap();
    assert_eq!((size(), log.state().store_failure), (11, None));
    signer.broken.store(false, Ordering::Release);
    until("the signer works again", || size() == 22).await;
    log.append(event("/")).await.unwrap();
    log.close().await;

    let text = fs::read_to_string(&outside).unwrap();
    let notes: Vec<Note> = Notes::of(&text).map(Result::unwrap).collect();
    let sizes: Vec<_> = notes.iter().map(|note| note.checkpoint.size).collect();
    assert_eq!(
        sizes,
        [10, 11, 22, 23],
        "the last one is made when the log closes"
    );
    let rows = chain(&path).await;
    let mut store = SqliteConnection::connect(&format!("sqlite://{}", path.display()))
        .await
        .unwrap();
    let stored: Vec<String> = sqlx::query_scalar("SELECT note FROM audit_checkpoints ORDER BY size")
        .fetch_all(&mut store)
        .await
        .unwrap();
    for (note, stored) in notes.iter().zip(&stored) {
        assert_eq!(&note.to_string(), stored);
        assert!(note.signatures[0].verifies(&signer.public_key(), &note.checkpoint.body()));
        let at = usize::try_from(note.checkpoint.size).unwrap();
        if let Some(next) = rows.get(at) {
            assert_eq!(next.text("prev_hash"), note.checkpoint.hash.to_string());
        }
    }
    assert_eq!(stored.len(), 4);
    store.close().await.unwrap();

    // A log with a truncated end, a changed event or no checkpoints, and a replaced log, are not opened.
    let last = "UPDATE audit_events SET hash = zeroblob(32) WHERE seq = 23";
    let emptied = "DELETE FROM audit_checkpoints;";
    let saved = fs::read(&path).unwrap();
    for (sql, expected) in [
        (
            format!("{emptied} DELETE FROM audit_events WHERE seq > 20"),
            "Truncated",
        ),
        ("DELETE FROM audit_events WHERE seq > 20".to_owned(), "Truncated"),
        (format!("{emptied} DELETE FROM audit_events"), "Truncated"),
        (last.to_owned(), "HeadChanged"),
        (
            "UPDATE audit_events SET payload = payload || ' ' WHERE seq = 23".to_owned(),
            "HeadChanged",
        ),
    ] {
        let mut store = SqliteConnection::connect(&format!("sqlite://{}", path.display()))
            .await
            .unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.clone()))
            .execute(&mut store)
            .await
            .unwrap();
        store.close().await.unwrap();
        let error = Log::open(settings(), signer.clone(), Metrics::default())
            .await
            .unwrap_err();
        let variant = format!("{error:?}");
        assert!(variant.starts_with(expected), "{sql}: {error}");
        fs::write(&path, &saved).unwrap();
    }
    fs::remove_file(&path).unwrap();
    let error = Log::open(settings(), signer.clone(), Metrics::default())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            OpenError::Truncated {
                size: 23,
                found: 0,
                ..
            }
        ),
        "{error}"
    );
    // Another log of at least this size.
    fs::remove_file(&path).unwrap();
    let other = open(sqlite(&path)).await;
    other
        .append_all((0..30).map(|_| event("/forged")).collect())
        .await
        .unwrap();
    other.close().await;
    let mut store = SqliteConnection::connect(&format!("sqlite://{}", path.display()))
        .await
        .unwrap();
    sqlx::query(emptied).execute(&mut store).await.unwrap();
    store.close().await.unwrap();
    let error = Log::open(settings(), signer.clone(), Metrics::default())
        .await
        .unwrap_err();
    assert!(matches!(error, OpenError::Replaced { size: 23, .. }), "{error}");
}

/// A server that responds with these statuses in turn, and returns the requests through a channel.
async fn server(statuses: Vec<u16>) -> (url::Url, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/checkpoints?key=secret", listener.local_addr().unwrap());
    let (sender, requests) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            // A note ends with the newline of its last signature.
            while !(request.ends_with(b"\n") && String::from_utf8_lossy(&request).contains("\u{2014} ")) {
                stream.read_buf(&mut request).await.unwrap();
            }
            sender.send(String::from_utf8(request).unwrap()).unwrap();
            let response = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(response.as_bytes()).await.unwrap();
        }
    });
    (url.parse().unwrap(), requests)
}

#[tokio::test]
async fn checkpoints_are_posted_and_a_failing_server_delays_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (url, mut requests) = server(vec![200, 500]).await;
    let mut settings = sqlite(&directory.path().join("audit.db"));
    settings.checkpoints.every = Duration::from_millis(200);
    settings.checkpoints.post = Some(PostTarget {
        client: postern_testbed::http::builder().build().unwrap(),
        url,
        timeout: Duration::from_secs(5),
    });
    let log = open(settings).await;
    // The third connection is refused: the server has ended.
    for (size, failures) in [(1, 0), (2, 1), (3, 2)] {
        log.append(event("/")).await.unwrap();
        until("a checkpoint", || {
            log.state().checkpoint.is_some_and(|c| c.size == size)
        })
        .await;
        until("counted", || log.state().checkpoint_failures == failures).await;
        if size < 3 {
            let request = requests.recv().await.unwrap();
            let (head, note) = request.split_once("\r\n\r\n").unwrap();
            assert!(
                head.starts_with("POST /checkpoints?key=secret HTTP/1.1"),
                "{head}"
            );
            assert_eq!(
                Note::parse(note).unwrap().checkpoint,
                log.state().checkpoint.unwrap()
            );
        }
    }
    log.close().await;
}

/// An external checkpoint that contradicts the log shows that the log was replaced, wherever in the file it is.
#[tokio::test]
async fn every_external_checkpoint_is_compared_when_the_log_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let outside = directory.path().join("checkpoints");
    let log_of = |name: &str| {
        let mut settings = sqlite(&directory.path().join(name));
        settings.checkpoints.file = Some(outside.clone());
        settings
    };
    for (name, events) in [("other.db", 3), ("audit.db", 7)] {
        let mut settings = log_of(name);
        if name == "audit.db" {
            fs::rename(&outside, directory.path().join("aside")).unwrap();
        }
        settings.host = name.into();
        let log = open(settings).await;
        for number in 0..events {
            log.append(event(format!("/{number}"))).await.unwrap();
        }
        log.close().await;
    }
    let opened = || Log::open(log_of("audit.db"), Signer::new(), Metrics::default());
    opened().await.unwrap().close().await;
    let (own, others) = (
        fs::read_to_string(&outside).unwrap(),
        fs::read_to_string(directory.path().join("aside")).unwrap(),
    );
    // The largest checkpoint matches, and is the last one.
    fs::write(&outside, others + &own).unwrap();
    let refused = opened().await;
    assert!(
        matches!(refused, Err(OpenError::Replaced { size: 3, .. })),
        "{refused:?}"
    );
}

/// A signer that never responds.
struct Silent;

impl postern_audit::CheckpointSigner for Silent {
    fn sign<'a>(&'a self, _: &'a [u8]) -> postern_audit::SignFuture<'a> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_hanging_signer_does_not_delay_closing_beyond_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let log = Log::open(sqlite(&path), Arc::new(Silent), Metrics::default())
        .await
        .unwrap();
    log.append(event("/")).await.unwrap();
    let began = std::time::Instant::now();
    assert_eq!(log.close_within(Duration::from_secs(1)).await, 0);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // The store was closed cleanly.
    assert!(!directory.path().join("audit.db-wal").exists());
    assert_eq!(chain(&path).await.len(), 1);
}

#[tokio::test]
async fn a_checkpoint_error_lasts_until_a_checkpoint_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = sqlite(&directory.path().join("audit.db"));
    settings.checkpoints.every = Duration::from_millis(200);
    let signer = Signer::new();
    signer.broken.store(true, Ordering::Release);
    let log = Log::open(settings, Arc::clone(&signer) as _, Metrics::default())
        .await
        .unwrap();
    log.append(event("/")).await.unwrap();
    until("the error", || log.state().checkpoint_error.is_some()).await;
    let error = log.state().checkpoint_error.unwrap();
    assert_eq!(error, "no checkpoint: sign: the KMS is unavailable");
    signer.broken.store(false, Ordering::Release);
    until("none", || log.state().checkpoint_error.is_none()).await;
    log.close().await;
}

#[tokio::test]
async fn a_locked_or_exposed_store_is_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let log = open(sqlite(&path)).await;
    let again = Log::open(sqlite(&path), Signer::new(), Metrics::default()).await;
    assert!(matches!(again, Err(OpenError::Locked(_))), "{again:?}");
    // The same file under another name, which has no lock file.
    let link = directory.path().join("elsewhere.db");
    fs::hard_link(&path, &link).unwrap();
    let again = Log::open(sqlite(&link), Signer::new(), Metrics::default()).await;
    assert!(matches!(again, Err(OpenError::Locked(_))), "{again:?}");
    // Readers need no lock.
    assert_eq!(chain(&path).await.len(), 0);
    log.append(event("/")).await.unwrap();
    log.close().await;
    let log = open(sqlite(&link)).await;
    log.append(event("/")).await.unwrap();
    log.close().await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
    let exposed = Log::open(sqlite(&path), Signer::new(), Metrics::default()).await;
    assert!(
        matches!(exposed, Err(OpenError::InsecurePermissions(_))),
        "{exposed:?}"
    );
    let nowhere = sqlite(&directory.path().join("none/audit.db"));
    let nowhere = Log::open(nowhere, Signer::new(), Metrics::default()).await;
    assert!(matches!(nowhere, Err(OpenError::File(..))), "{nowhere:?}");
    let mut unnamed = sqlite(&path);
    unnamed.origin = "two\nlines".into();
    let unnamed = Log::open(unnamed, Signer::new(), Metrics::default()).await;
    assert!(matches!(unnamed, Err(OpenError::Settings(_))), "{unnamed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_file_that_disappears_is_noticed_and_used_again_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let mut settings = sqlite(&path);
    settings.deadline = Duration::from_millis(300);
    let log = open(settings).await;
    log.append(event("/before")).await.unwrap();
    let away = directory.path().join("away");
    fs::rename(&path, &away).unwrap();
    let refused = log.append(event("/while")).await.unwrap_err();
    assert_eq!(refused.code(), "audit_unavailable", "{refused}");
    let failure = log.state().store_failure.unwrap();
    assert!(failure.reason.contains("deleted or replaced"), "{failure:?}");
    // Another file in its place is not used.
    fs::write(&path, "").unwrap();
    let refused = log.append(event("/replaced")).await.unwrap_err();
    assert_eq!(refused.code(), "audit_unavailable", "{refused}");
    fs::remove_file(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    until("it works again", || log.state().store_failure.is_none()).await;
    log.append(event("/after")).await.unwrap();
    log.close().await;
    let rows = chain(&path).await;
    let paths: Vec<_> = rows.iter().map(|row| row.text("path")).collect();
    assert_eq!((paths[0], paths[paths.len() - 1]), ("/before", "/after"));
    assert!(rows.iter().any(|row| row.text("reason") == "audit_store_failed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_write_ahead_log_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let log = open(sqlite(&path)).await;
    log.append(event("/before")).await.unwrap();
    fs::remove_file(directory.path().join("audit.db-wal")).unwrap();
    // The writer notices, and checkpoints the deleted log into the database before it writes this to a new one.
    log.append(event("/while")).await.unwrap();
    let copy = directory.path().join("copy.db");
    for suffix in ["", "-wal"] {
        let name = |of: &Path| format!("{}{suffix}", of.display());
        fs::copy(name(&path), name(&copy)).unwrap();
    }
    let rows = chain(&copy).await;
    let paths: Vec<_> = rows.iter().map(|row| row.text("path")).collect();
    assert!(
        paths.starts_with(&["/before"]) && paths.ends_with(&["/while"]),
        "{paths:?}"
    );
    log.close().await;
    let rows = chain(&path).await;
    assert!(rows.iter().any(|row| row.text("reason") == "audit_store_failed"));
}

/// The verifier reports a log with checkpoints of two origins as tampered with, for good.
#[tokio::test]
async fn a_log_whose_checkpoints_are_of_another_origin_is_not_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let log = open(sqlite(&path)).await;
    log.append(event("/")).await.unwrap();
    log.close().await;
    let mut settings = sqlite(&path);
    settings.origin = "postern.example/other".into();
    let refused = Log::open(settings, Signer::new(), Metrics::default()).await;
    let Err(error @ OpenError::OriginMismatch { .. }) = refused else {
        panic!("{refused:?}");
    };
    for named in [
        "\"postern.example/audit\"",
        "\"postern.example/other\"",
        "restore the origin",
    ] {
        assert!(error.to_string().contains(named), "{error}");
    }
    open(sqlite(&path)).await.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_the_database_drops_are_not_acknowledged() {
    for table in ["audit_events", "manifest_signatures"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.db");
        open(sqlite(&path)).await.close().await;
        let mut store = SqliteConnection::connect(&format!("sqlite://{}", path.display()))
            .await
            .unwrap();
        let trigger =
            format!("CREATE TRIGGER dropping BEFORE INSERT ON {table} BEGIN SELECT raise(ignore); END");
        sqlx::raw_sql(sqlx::AssertSqlSafe(trigger))
            .execute(&mut store)
            .await
            .unwrap();
        store.close().await.unwrap();
        let mut settings = sqlite(&path);
        settings.deadline = Duration::from_millis(300);
        let log = open(settings).await;
        let signature = ManifestSignature {
            manifest_hash: Hash::of(b"{}"),
            signature: [5; 64],
            signer_id: "kernel-2026".into(),
            signed_at: Time::from_micros(1),
        };
        let mut signed = event("/sign/manifest");
        signed.kind = Kind::ManifestSignature;
        let refused = log.record_manifest(signature, signed).await.unwrap_err();
        assert!(refused.to_string().contains("rule or trigger"), "{refused}");
        log.close_within(Duration::from_secs(1)).await;
        assert!(
            chain(&path)
                .await
                .iter()
                .all(|row| row.text("path") != "/sign/manifest")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_the_database_drops_is_not_written_to_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let outside = directory.path().join("checkpoints");
    open(sqlite(&path)).await.close().await;
    let mut store = SqliteConnection::connect(&format!("sqlite://{}", path.display()))
        .await
        .unwrap();
    let trigger =
        "CREATE TRIGGER dropping BEFORE INSERT ON audit_checkpoints BEGIN SELECT raise(ignore); END";
    sqlx::query(trigger).execute(&mut store).await.unwrap();
    store.close().await.unwrap();
    let mut settings = sqlite(&path);
    settings.checkpoints.every = Duration::from_millis(200);
    settings.checkpoints.file = Some(outside.clone());
    let log = open(settings).await;
    log.append(event("/")).await.unwrap();
    until("the error", || log.state().checkpoint_error.is_some()).await;
    let error = log.state().checkpoint_error.unwrap();
    assert!(error.contains("rule or trigger"), "{error}");
    log.close_within(Duration::from_secs(1)).await;
    assert!(!outside.exists(), "the store does not have the checkpoint");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_writer_is_a_store_failure() {
    let directory = tempfile::tempdir().unwrap();
    let broken = Arc::new(AtomicBool::new(false));
    let breaks = Arc::clone(&broken);
    let clock = Clock::new(move || {
        assert!(
            !breaks.swap(false, Ordering::AcqRel),
            "the panic that this test injects into the writer"
        );
        Time::from_micros(1_800_000_000_000_000)
    });
    let settings = sqlite(&directory.path().join("audit.db"));
    let log = Log::open_with_clock(settings, Signer::new(), Metrics::default(), clock)
        .await
        .unwrap();
    log.append(event("/before")).await.unwrap();
    assert_eq!(log.state().store_failure, None);
    broken.store(true, Ordering::Release);
    let refused = log.append(event("/dying")).await.unwrap_err();
    assert_eq!(refused.code(), "audit_unavailable");
    until("the failure", || log.state().store_failure.is_some()).await;
    let failure = log.state().store_failure.unwrap();
    assert!(failure.reason.contains("has died"), "{failure:?}");
    assert_eq!(
        log.state().store_failure,
        Some(failure),
        "its time does not change"
    );
    log.close_within(Duration::from_secs(1)).await;
}
