//! Another process changes the store of a log while a host writes to it, or a caller sends different events under existing
//! ids.

use std::fs::{self, FileTimes, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;
use std::time::Duration;

use crate::support::{Signer, chain, event, open, sqlite, until};
use postern_audit::{AppendError, Event, Log, Metrics, Notes, OpenError, Settings};
use sqlx::{Connection as _, SqliteConnection};
use tempfile::TempDir;

fn cut(path: &Path, to: impl Fn(u64) -> u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let length = file.metadata().unwrap().len();
    file.set_len(to(length)).unwrap();
}

/// The new length of a truncated file.
type Cut = (&'static str, fn(u64) -> u64);
const CUTS: [Cut; 3] = [
    ("half", |length| length / 2),
    ("all", |_| 0),
    ("a byte", |length| length - 1),
];

/// A log in a folder, with an external checkpoint file.
fn settings(folder: &Path) -> Settings {
    let mut settings = sqlite(&folder.join("audit.db"));
    settings.checkpoints.file = Some(folder.join("checkpoints"));
    settings
}

/// A log of forty events that no checkpoint covers yet.
async fn filled(change: impl FnOnce(&mut Settings)) -> (TempDir, Log) {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(folder.path());
    change(&mut settings);
    let log = open(settings).await;
    for number in 0..40 {
        log.append(event(format!("/{number}"))).await.unwrap();
    }
    (folder, log)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_write_ahead_log_is_noticed_and_nothing_more_is_acknowledged() {
    for (name, length) in CUTS {
        let (directory, log) = filled(|settings| settings.deadline = Duration::from_millis(300)).await;
        cut(&directory.path().join("audit.db-wal"), length);
        // Also while idle: readiness depends on it.
        until(name, || log.state().store_failure.is_some()).await;
        for _ in 0..3 {
            let refused = log.append(event("/behind the gap")).await.unwrap_err();
            assert_eq!(refused.code(), "audit_unavailable", "{name}: {refused}");
        }
        let failure = log.state().store_failure.unwrap();
        // Also if the tables themselves were cut off.
        let expected = "is not in the store as it was written";
        assert!(failure.reason.contains(expected), "{name}: {failure:?}");
        drop(log);
    }
}

/// Otherwise, acknowledged events without a checkpoint would be lost without a trace when the host restarts.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_a_truncated_store_writes_an_external_checkpoint() {
    for (name, length) in CUTS {
        let (directory, log) = filled(|_| {}).await;
        let outside = directory.path().join("checkpoints");
        assert!(!outside.exists(), "{name}: no checkpoint is due");
        cut(&directory.path().join("audit.db-wal"), length);
        let note = || Notes::of(&fs::read_to_string(&outside).ok()?).next()?.ok();
        until(name, || note().is_some()).await;
        let note = note().unwrap();
        assert_eq!(note.checkpoint.size, 40, "{name}");
        log.close_within(Duration::from_secs(1)).await;
        let again = Log::open(settings(directory.path()), Signer::new(), Metrics::default()).await;
        assert!(
            matches!(again, Err(OpenError::Truncated { size: 40, .. })),
            "{name}: {again:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncation_right_before_an_event_is_noticed_before_the_acknowledgement() {
    for (name, length) in CUTS {
        let (directory, log) = filled(|settings| settings.deadline = Duration::from_millis(300)).await;
        cut(&directory.path().join("audit.db-wal"), length);
        let refused = log.append(event("/behind the gap")).await.unwrap_err();
        assert_eq!(refused.code(), "audit_unavailable", "{name}: {refused}");
        drop(log);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_file_metadata_interrupts_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let log = open(sqlite(&path)).await;
    log.append(event("/before")).await.unwrap();
    let wal = directory.path().join("audit.db-wal");
    // SQLite does this when root reads the database: it sets the owner to the current one.
    let touch = async || {
        let before = fs::metadata(&wal).unwrap();
        while fs::metadata(&wal).unwrap().ctime_nsec() == before.ctime_nsec() {
            tokio::time::sleep(Duration::from_millis(5)).await;
            chown(&wal, Some(before.uid()), Some(before.gid())).unwrap();
        }
        assert_eq!(fs::metadata(&wal).unwrap().mtime_nsec(), before.mtime_nsec());
    };
    // A reader holds a snapshot meanwhile.
    let mut reader = SqliteConnection::connect(&format!("sqlite://{}", path.display()))
        .await
        .unwrap();
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM audit_events")
        .execute(&mut reader)
        .await
        .unwrap();
    touch().await;
    log.append(event("/after")).await.unwrap();
    // Also while idle.
    touch().await;
    for _ in 0..150 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(log.state().store_failure, None);
    }
    reader.close().await.unwrap();
    touch().await;
    log.append(event("/last")).await.unwrap();
    assert_eq!(log.state().store_failure, None);
    log.close().await;
    let rows = chain(&path).await;
    let paths: Vec<_> = rows.iter().map(|row| row.text("path")).collect();
    assert_eq!(
        paths,
        ["/before", "/after", "/last"],
        "without an event of a failure"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overwritten_write_ahead_log_is_noticed_although_its_time_was_set_back() {
    for idle in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.db");
        let mut settings = sqlite(&path);
        settings.deadline = Duration::from_millis(300);
        let log = open(settings).await;
        for number in 0..40 {
            log.append(event(format!("/{number}"))).await.unwrap();
        }
        let mut wal = OpenOptions::new()
            .write(true)
            .open(directory.path().join("audit.db-wal"))
            .unwrap();
        let before = wal.metadata().unwrap();
        wal.write_all(&vec![0; usize::try_from(before.len()).unwrap()])
            .unwrap();
        let times = FileTimes::new()
            .set_accessed(before.accessed().unwrap())
            .set_modified(before.modified().unwrap());
        wal.set_times(times).unwrap();
        if idle {
            until("noticed", || log.state().store_failure.is_some()).await;
        }
        for _ in 0..3 {
            let refused = log.append(event("/behind the gap")).await.unwrap_err();
            assert_eq!(refused.code(), "audit_unavailable", "{refused}");
        }
        assert!(log.state().store_failure.is_some());
        drop(log);
    }
}

fn with_id_of(other: &Event, path: &str) -> Event {
    Event {
        id: other.id,
        ..event(path)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_identifies_one_event() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let log = open(sqlite(&path)).await;
    let first = event("/first");
    let conflict = |index| AppendError::Conflict { index, id: first.id };
    // Twice in one call: the same event is written once, a different one is rejected.
    let receipts = log.append_all(vec![first.clone(), first.clone()]).await.unwrap();
    assert_eq!(receipts[0], receipts[1]);
    let other = event("/other");
    let refused = log
        .append_all(vec![other.clone(), with_id_of(&other, "/changed")])
        .await
        .unwrap_err();
    assert_eq!(
        refused,
        AppendError::Conflict {
            index: 1,
            id: other.id
        }
    );
    // In conflict with an event of the log.
    assert_eq!(
        log.append(first.clone()).await.unwrap(),
        receipts[0],
        "sent again"
    );
    assert_eq!(log.append(with_id_of(&first, "/changed")).await, Err(conflict(0)));
    let batch = vec![event("/beside"), with_id_of(&first, "/changed")];
    assert_eq!(log.append_all(batch).await, Err(conflict(1)));
    // In conflict with another call in the same commit.
    let (one, two) = (event("/one"), event("/two"));
    let calls = (0..64).map(|number| {
        let (log, event) = (
            log.clone(),
            with_id_of(&one, if number == 0 { "/one" } else { "/changed" }),
        );
        async move { log.append(event).await }
    });
    let results = futures_util::future::join_all(calls).await;
    let accepted = results.iter().filter(|result| result.is_ok()).count();
    assert!(
        accepted == 1 || accepted == 63,
        "{accepted}: one event or the other must be acknowledged each time it was sent"
    );
    // A rejected event leaves nothing behind, and its id is still free.
    log.append(with_id_of(&other, "/changed")).await.unwrap();
    log.append(two).await.unwrap();
    // A number that is read back in another form is the same.
    let mut number = event("/number");
    number.detail.insert("n".into(), serde_json::json!(1.0));
    log.append(number.clone()).await.unwrap();
    log.append(number).await.unwrap();
    log.close().await;
    let rows = chain(&path).await;
    assert!(!rows.iter().any(|row| row.text("path") == "/beside"));
    assert_eq!(rows.iter().filter(|row| row.id == first.id).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_records_a_missing_or_torn_checkpoint_file_at_its_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("audit.db");
    let notes = directory.path().join("audit.notes");
    let mut settings = sqlite(&path);
    settings.checkpoints.file = Some(notes.clone());
    let start = async || {
        let log = open(settings.clone()).await;
        log.append(event("/")).await.unwrap();
        log.close().await;
        let rows = chain(&path).await;
        let reasons = rows.iter().map(|row| row.text("reason").to_owned());
        reasons
            .filter(|reason| reason.starts_with("checkpoints_file"))
            .collect::<Vec<_>>()
    };
    assert_eq!(start().await, [""; 0], "a new log");
    assert_eq!(start().await, [""; 0], "an intact file");
    fs::remove_file(&notes).unwrap();
    assert_eq!(start().await, ["checkpoints_file_missing"]);
    assert_eq!(start().await.len(), 1, "a new file was created");
    cut(&notes, |length| length - 30);
    assert_eq!(
        start().await,
        ["checkpoints_file_missing", "checkpoints_file_torn"]
    );
    assert_eq!(start().await.len(), 2, "intact again");
}
